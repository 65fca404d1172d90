// y = x Wᵀ (+ bias), in the weight format that the graph is built for. The rows of several weights
// may be stacked into one product (q, k and v; gate and up).
//
//   fp32, fp16:  x ─ MatMul(Wᵀ [K, N]) ─ (Add bias)
//   int4, int8:  x ─ MatMulNBits(W [N, K / block, blob], scales (, zeros)) ─ (Add bias)
//                or our own QuantizedMatMul of the same inputs (server/native), whose rows lie side by
//                side (tiles.ts), and of which columns are wanted
//   stored:      x ─ QuantizedMatMul(W [N, K / 32, blob], scales (, no zeros, mins)) ─ (Add bias)
//
// Gate and up may meet within the product, in our own GatedProduct of the same inputs.

import type { Kernels, TensorSource, WeightFormat } from '../contracts/checkpoint.ts'
import {
  type BlockLayout,
  type BlockMatrix,
  blockAttributes,
  blockInputs,
  blockMatrix,
  orderOf,
  piecesIn,
  productTensors,
} from './block-matrix.ts'
import type { GraphBuilder } from './builder.ts'

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
  /** Graph input with the columns that are wanted; ignored where the product computes all anyway. */
  readonly wanted?: string
}

/** Of the product with the rows of all these weights. */
function shapeOf({ tensors }: LinearContext, weights: readonly string[]) {
  const inner = tensors.shape(weights[0] ?? '')[1] ?? 0
  const outer = weights.reduce((sum, weight) => sum + (tensors.shape(weight)[0] ?? 0), 0)
  return { inner, outer }
}

export function linear(context: LinearContext, options: LinearOptions): string {
  const { graph, tensors } = context
  const { name, weights, biases = [], outputName } = options
  const shape = shapeOf(context, weights)
  const { outer } = shape
  const hasBias = biases.length > 0
  const product = hasBias ? `${name}/product` : name
  const outputs = outputName && !hasBias ? [outputName] : [product]
  const matrix = blockMatrix(context, context.format, weights)
  const result =
    matrix === null
      ? floatProduct(context, { ...options, ...shape, product, outputs })
      : quantizedProduct(context, matrix, { ...options, ...shape, product, outputs })
  if (!hasBias) return result
  const bias = graph.weight(`${name}.bias`, [outer], () =>
    Float32Array.from(biases.flatMap((bias) => [...tensors.read(bias)])),
  )
  return graph.node(name, 'Add', [result, bias])
}

/** GatedProduct takes whole tiles of 16 columns, of gate and of up. */
const twoTiles = 32

/**
 * silu(gate) · up, where the weights are gate's and up's, with the adapters of up and gate (a, b, a, b; ''
 * where there are none). null: only separate nodes can do it.
 */
export function gatedLinear(
  context: LinearContext,
  options: LinearOptions & { readonly adapters: readonly string[] },
): string | null {
  const { graph, format, kernels } = context
  const { name, input, weights, biases = [], adapters } = options
  const shape = shapeOf(context, weights)
  if (kernels !== 'own' || biases.length > 0 || shape.outer % twoTiles !== 0) return null
  const matrix = blockMatrix(context, format, weights)
  if (matrix === null) return null
  addMatrix(context, matrix, { name, weights, ...shape })
  const inputs = [input, ...blockInputs(name, matrix.layout)]
  while (inputs.length < 5) inputs.push('')
  inputs.push(...adapters)
  while (inputs.at(-1) === '') inputs.pop()
  const attributes = blockAttributes(matrix.layout, shape)
  return graph.node(`${name}/product`, 'GatedProduct', inputs, { domain: 'dutyfree', attributes })
}

interface ProductOptions extends LinearOptions {
  readonly inner: number
  readonly outer: number
  readonly product: string
  readonly outputs: readonly string[]
}

function floatProduct({ graph, tensors }: LinearContext, options: ProductOptions): string {
  const { name, input, weights, inner, outer, product, outputs } = options
  function read(): Float32Array {
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
  }
  const matrix = graph.weight(`${name}.weight`, [inner, outer], read, weights)
  return graph.node(product, 'MatMul', [input, matrix], { outputs })
}

function quantizedProduct(
  context: LinearContext,
  matrix: BlockMatrix,
  options: ProductOptions,
): string {
  addMatrix(context, matrix, options)
  return quantizedMatMul(context, matrix.layout, options)
}

function addMatrix(
  { graph, kernels }: LinearContext,
  matrix: BlockMatrix,
  options: Pick<ProductOptions, 'name' | 'weights' | 'inner' | 'outer'>,
): void {
  const { name, weights: matrices, inner, outer } = options
  const order = orderOf(kernels)
  const tensors = productTensors(graph, name, matrix.layout, { inner, outer }, order)
  graph.weights({ tensors, pieces: piecesIn(order, matrix, inner), matrices })
}

/** The product with the matrix of `productTensors(name, …)`. */
export function quantizedMatMul(
  { graph, kernels }: Pick<LinearContext, 'graph' | 'kernels'>,
  layout: BlockLayout,
  options: {
    name: string
    product: string
    input: string
    outputs: readonly string[]
    inner: number
    outer: number
    wanted?: string
  },
): string {
  const { name, product, input, outputs, inner, outer, wanted } = options
  const inputs = [input, ...blockInputs(name, layout)]
  const attributes = blockAttributes(layout, { inner, outer })
  if (layout.offsets === 'mins' && kernels !== 'own')
    throw new Error(`${name}: mins need our own kernels`)
  if (kernels === 'own') {
    if (wanted !== undefined) {
      while (inputs.length < 5) inputs.push('')
      inputs.push(wanted)
    }
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
