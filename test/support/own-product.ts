// Our own operator QuantizedMatMul by itself, over a matrix of integers in blocks.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type BlockLayout, piecesIn, productTensors } from '../../server/graph/block-matrix.ts'
import { createGraphBuilder, type GraphBuilder } from '../../server/graph/builder.ts'
import { encodeModel, placeWeights, weightsFileName } from '../../server/graph/encoding.ts'
import { quantizedMatMul } from '../../server/graph/linear.ts'
import { allocateTensor, openSession } from '../../server/runtime/session.ts'

export interface ProductMatrix {
  readonly layout: BlockLayout
  readonly inner: number
  readonly outer: number
  readonly data: Uint8Array
  readonly scales: Float32Array
  /** Integer zeros, packed; or mins; as the layout says. */
  readonly offsets: Uint8Array | Float32Array | null
}

/** All rows, in the order in which products read them. */
function partsOf(graph: GraphBuilder, { layout, inner, data, scales, offsets }: ProductMatrix) {
  const beside =
    offsets === null ? [] : [offsets instanceof Uint8Array ? offsets : graph.floatBytes(offsets)]
  const whole = [data, graph.floatBytes(scales), ...beside]
  const pieces = [...piecesIn('tiles', { layout, pieces: () => [whole] }, inner)()]
  return whole.map((_, part) => Buffer.concat(pieces.map((piece) => piece[part]!)))
}

/** Opens the operator over this matrix; its input is x [rows, inner]. `dir` is made for it. */
export function openProduct(dir: string, matrix: ProductMatrix, threads: number) {
  const { layout, inner, outer } = matrix
  const graph = createGraphBuilder()
  graph.input('x', 'float32', ['rows', inner])
  const parts = partsOf(graph, matrix)
  graph.weights({
    tensors: productTensors(graph, 'w', layout, { inner, outer }, 'tiles'),
    pieces: () => [parts],
  })
  const options = { name: 'w', product: 'y', input: 'x', outputs: ['y'], inner, outer }
  quantizedMatMul({ graph, kernels: 'own' }, layout, options)
  graph.output('y', 'float32', ['rows', outer])
  const built = graph.build()
  const { placements, size } = placeWeights(built)
  const file = Buffer.alloc(size)
  for (const [i, { offset }] of placements.entries()) file.set(parts[i]!, offset)
  mkdirSync(dir)
  writeFileSync(join(dir, weightsFileName), file)
  writeFileSync(join(dir, 'model.onnx'), encodeModel(built, placements))
  const session = openSession({ graph: join(dir, 'model.onnx'), threads, accelerator: null })
  return {
    multiply(x: Float32Array): Float32Array {
      const rows = x.length / inner
      const [input, output] = [
        allocateTensor('float32', [rows, inner]),
        allocateTensor('float32', [rows, outer]),
      ]
      input.data.set(x)
      const binding = session.bind(new Map([['x', input]]), new Map([['y', output]]))
      binding.runBlocking()
      const result = output.data.slice()
      for (const one of [binding, input, output]) one.release()
      return result
    },
    close: () => session.release(),
  }
}
