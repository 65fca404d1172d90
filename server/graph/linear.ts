// y = x Wᵀ (+ bias), in the weight format that the graph is built for. The rows of several weights
// may be stacked into one product (q, k and v; gate and up).
//
//   fp32, fp16:  x ─ MatMul(Wᵀ [K, N]) ─ (Add bias)
//   int4, int8:  x ─ MatMulNBits(W [N, K / block, blob], scales) ─ (Add bias)

import type { QuantizedBits, TensorSource, WeightFormat } from '../contracts/checkpoint.ts'
import type { GraphBuilder, Weight } from './builder.ts'
import { blocksPerRow, quantizeRows } from './quantize.ts'

export interface LinearContext {
  readonly graph: GraphBuilder
  readonly tensors: TensorSource
  readonly format: WeightFormat
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
      ? quantizedProduct(context, { ...options, ...shape, product, outputs, ...format })
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
          transposed[i * outer + column + row] = values[row * inner + i] as number
        }
      }
      column += rows
    }
    return transposed
  })
  return graph.node(product, 'MatMul', [input, matrix], { outputs })
}

function quantizedProduct(
  { graph, tensors }: LinearContext,
  options: ProductOptions & { bits: QuantizedBits; block: number },
): string {
  const { name, input, weights, inner, outer, product, outputs, bits, block } = options
  const numBlocks = blocksPerRow({ bits, block, columns: inner })
  const data = `${name}.weight`
  const scales = `${name}.scales`
  graph.weights({
    tensors: [
      { name: data, type: 'uint8', dims: [outer, numBlocks, (block * bits) / 8] },
      { name: scales, type: graph.floats, dims: [outer * numBlocks] },
    ],
    pieces: quantizedPieces(graph, tensors, weights, { bits, block, columns: inner }),
  })
  return matMulNBits(graph, { product, input, data, scales, outputs, inner, outer, bits, block })
}

export function matMulNBits(
  graph: GraphBuilder,
  options: {
    product: string
    input: string
    data: string
    scales: string
    outputs: readonly string[]
    inner: number
    outer: number
    bits: QuantizedBits
    block: number
  },
): string {
  // Activations are rounded to 8 bits a block, which the fast kernels multiply with.
  const int8Activations = 4
  return graph.node(options.product, 'MatMulNBits', [options.input, options.data, options.scales], {
    domain: 'com.microsoft',
    outputs: options.outputs,
    attributes: {
      K: options.inner,
      N: options.outer,
      bits: options.bits,
      block_size: options.block,
      accuracy_level: int8Activations,
    },
  })
}

/** Quantises some rows at a time, so that no weight is whole in memory. */
export function quantizedPieces(
  graph: GraphBuilder,
  tensors: TensorSource,
  names: readonly string[],
  options: { bits: QuantizedBits; block: number; columns: number },
): Weight['pieces'] {
  return function* pieces() {
    const rowsAtOnce = Math.max(1, Math.floor(pieceElements / options.columns))
    for (const name of names) {
      const numRows = tensors.shape(name)[0] ?? 0
      for (let first = 0; first < numRows; first += rowsAtOnce) {
        const count = Math.min(rowsAtOnce, numRows - first)
        const { data, scales } = quantizeRows(tensors.readRows(name, first, count), options)
        yield [data, graph.floatBytes(scales)]
      }
    }
  }
}
