// y = x Wᵀ (+ bias), in the weight format that the graph is built for. The rows of several weights
// may be stacked into one product (q, k and v; gate and up).
//
//   fp32, fp16:  x ─ MatMul(Wᵀ [K, N]) ─ (Add bias)
//   int4, int8:  x ─ MatMulNBits(W [N, K / block, blob], scales (, zeros)) ─ (Add bias)
//                or our own QuantizedMatMul of the same inputs (server/native)

import type {
  Kernels,
  QuantizedFormat,
  TensorSource,
  WeightFormat,
} from '../contracts/checkpoint.ts'
import type { GraphBuilder, Weight, WeightTensor } from './builder.ts'
import { blocksPerRow, type QuantizeOptions, quantizeRows, zeroPointBytes } from './quantize.ts'

export interface LinearContext {
  readonly graph: GraphBuilder
  readonly tensors: TensorSource
  readonly format: WeightFormat
  readonly kernels: Kernels
}

export interface LinearOptions {
  readonly name: string
  readonly input: string
  /** Names in the checkpoint, each [rows, inner]. */
  readonly weights: readonly string[]
  readonly biases?: readonly string[]
  /** Name of the result where a graph output is meant. */
  readonly outputName?: string
}

/** Elements that are converted at once: bounds the memory of a conversion. */
const pieceElements = 4 << 20

export function linear(context: LinearContext, options: LinearOptions): string {
  const { graph, tensors, format } = context
  const { name, weights, biases = [], outputName } = options
  const inner = tensors.shape(weights[0] ?? '')[1] ?? 0
  const outer = weights.reduce((sum, weight) => sum + (tensors.shape(weight)[0] ?? 0), 0)
  const shape = { inner, outer }
  const hasBias = biases.length > 0
  const product = hasBias ? `${name}/product` : name
  const outputs = outputName && !hasBias ? [outputName] : [product]
  const result =
    format.kind === 'quantized'
      ? quantizedProduct(context, format, { ...options, ...shape, product, outputs })
      : floatProduct(context, { ...options, ...shape, product, outputs })
  if (!hasBias) return result
  const bias = graph.weight(`${name}.bias`, [outer], () =>
    Float32Array.from(biases.flatMap((bias) => [...tensors.read(bias)])),
  )
  return graph.node(name, 'Add', [result, bias])
}

interface ProductOptions extends LinearOptions {
  readonly inner: number
  readonly outer: number
  readonly product: string
  readonly outputs: readonly string[]
}

function floatProduct({ graph, tensors }: LinearContext, options: ProductOptions): string {
  const { name, input, weights, inner, outer, product, outputs } = options
  const matrix = graph.weight(`${name}.weight`, [inner, outer], () => {
    const transposed = new Float32Array(inner * outer)
    let column = 0
    for (const weight of weights) {
      const rows = tensors.shape(weight)[0] ?? 0
      const values = tensors.read(weight)
      for (let row = 0; row < rows; row++) {
        for (let i = 0; i < inner; i++) {
          transposed[i * outer + column + row] = values[row * inner + i]!
        }
      }
      column += rows
    }
    return transposed
  })
  return graph.node(product, 'MatMul', [input, matrix], { outputs })
}

function quantizedProduct(
  context: LinearContext,
  format: QuantizedFormat,
  options: ProductOptions,
): string {
  const { graph, tensors } = context
  const { name, input, weights, inner, outer, product, outputs } = options
  graph.weights({
    tensors: productTensors(graph, name, format, { inner, outer }),
    pieces: quantizedPieces(graph, tensors, weights, { ...format, columns: inner }),
  })
  return quantizedMatMul(context, format, { name, product, input, outputs, inner, outer })
}

/** A quantised matrix as MatMulNBits reads it: integers, scales and, where it has them, zeros. */
export function productTensors(
  graph: GraphBuilder,
  name: string,
  { bits, block, zeroPoints }: QuantizedFormat,
  { inner, outer }: { inner: number; outer: number },
): readonly WeightTensor[] {
  const numBlocks = blocksPerRow({ block, columns: inner })
  const zeroBytes = zeroPointBytes(numBlocks, bits)
  const tensors: readonly WeightTensor[] = [
    { name: `${name}.weight`, type: 'uint8', dims: [outer, numBlocks, (block * bits) / 8] },
    { name: `${name}.scales`, type: graph.floats, dims: [outer * numBlocks] },
    { name: `${name}.zeros`, type: 'uint8', dims: [outer * zeroBytes] },
  ]
  return zeroPoints ? tensors : tensors.slice(0, 2)
}

/** The product with the matrix of `productTensors(name, …)`. */
export function quantizedMatMul(
  { graph, kernels }: Pick<LinearContext, 'graph' | 'kernels'>,
  { bits, block, zeroPoints }: QuantizedFormat,
  options: {
    name: string
    product: string
    input: string
    outputs: readonly string[]
    inner: number
    outer: number
  },
): string {
  const { name, product, input, outputs, inner, outer } = options
  const zeros = zeroPoints ? [`${name}.zeros`] : []
  const inputs = [input, `${name}.weight`, `${name}.scales`, ...zeros]
  const attributes = { K: inner, N: outer, bits, block_size: block }
  if (kernels === 'own') {
    return graph.node(product, 'QuantizedMatMul', inputs, {
      domain: 'dutyfree',
      outputs,
      attributes,
    })
  }
  // Activations are rounded to 8 bits a block, which the fast kernels multiply with.
  const int8Activations = 4
  return graph.node(product, 'MatMulNBits', inputs, {
    domain: 'com.microsoft',
    outputs,
    attributes: { ...attributes, accuracy_level: int8Activations },
  })
}

/** Quantises some rows at a time, so that no weight is whole in memory. */
export function quantizedPieces(
  graph: GraphBuilder,
  tensors: TensorSource,
  names: readonly string[],
  options: QuantizeOptions,
): Weight['pieces'] {
  return function* pieces() {
    const rowsAtOnce = Math.max(1, Math.floor(pieceElements / options.columns))
    for (const name of names) {
      const numRows = tensors.shape(name)[0] ?? 0
      for (let first = 0; first < numRows; first += rowsAtOnce) {
        const count = Math.min(rowsAtOnce, numRows - first)
        const rows = quantizeRows(tensors.readRows(name, first, count), options)
        const piece = [rows.data, graph.floatBytes(rows.scales)]
        yield options.zeroPoints ? [...piece, rows.zeroPoints] : piece
      }
    }
  }
}
