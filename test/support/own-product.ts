// Our own products by themselves, over a matrix of integers in blocks.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type BlockLayout,
  blockAttributes,
  blockInputs,
  piecesIn,
  productTensors,
} from '../../server/graph/block-matrix.ts'
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

/** Opens a graph over this matrix, "w" in it. `dir` is made for it. */
function openGraph(dir: string, matrix: ProductMatrix, threads: number, graph: GraphBuilder) {
  const { layout, inner, outer } = matrix
  const parts = partsOf(graph, matrix)
  graph.weights({
    tensors: productTensors(graph, 'w', layout, { inner, outer }, 'tiles'),
    pieces: () => [parts],
  })
  const built = graph.build()
  const { placements, size } = placeWeights(built)
  const file = Buffer.alloc(size)
  for (const [i, { offset }] of placements.entries()) file.set(parts[i]!, offset)
  mkdirSync(dir)
  writeFileSync(join(dir, weightsFileName), file)
  writeFileSync(join(dir, 'model.onnx'), encodeModel(built, placements))
  return openSession({ graph: join(dir, 'model.onnx'), threads, accelerator: null })
}

interface Values {
  readonly data: Float32Array
  readonly shape: readonly number[]
}

function run(
  session: ReturnType<typeof openGraph>,
  inputs: Readonly<Record<string, Values>>,
  outputs: Readonly<Record<string, readonly number[]>>,
): Float32Array[] {
  const given = Object.entries(inputs).map(([name, { data, shape }]) => {
    const tensor = allocateTensor('float32', [...shape])
    tensor.data.set(data)
    return [name, tensor] as const
  })
  const made = Object.entries(outputs).map(
    ([name, shape]) => [name, allocateTensor('float32', [...shape])] as const,
  )
  const binding = session.bind(new Map(given), new Map(made))
  binding.runBlocking()
  const results = made.map(([, tensor]) => tensor.data.slice())
  for (const one of [binding, ...[...given, ...made].map(([, tensor]) => tensor)]) one.release()
  return results
}

/** Opens QuantizedMatMul over this matrix; its input is x [rows, inner]. */
export function openProduct(dir: string, matrix: ProductMatrix, threads: number) {
  const { layout, inner, outer } = matrix
  const graph = createGraphBuilder()
  graph.input('x', 'float32', ['rows', inner])
  const options = { name: 'w', product: 'y', input: 'x', outputs: ['y'], inner, outer }
  quantizedMatMul({ graph, kernels: 'own' }, layout, options)
  graph.output('y', 'float32', ['rows', outer])
  const session = openGraph(dir, matrix, threads, graph)
  return {
    multiply(data: Float32Array): Float32Array {
      const rows = data.length / inner
      return run(session, { x: { data, shape: [rows, inner] } }, { y: [rows, outer] })[0]!
    },
    close: () => session.release(),
  }
}

/** x [rows, tokens, inner], and adapters: a [adapter rows, inner, width], b [adapter rows, width, outer / 2]. */
export type GatedInputs = Readonly<Record<'x' | 'upA' | 'upB' | 'gateA' | 'gateB', Values>>

/** Opens GatedProduct over this matrix beside QuantizedMatMul and GatedUp, of the same inputs. */
export function openGated(dir: string, matrix: ProductMatrix, threads: number) {
  const { layout, inner, outer } = matrix
  const graph = createGraphBuilder()
  const half = outer / 2
  graph.input('x', 'float32', ['rows', 'tokens', inner])
  const adapters = ['up', 'gate'].flatMap((module) => [
    graph.input(`${module}A`, 'float32', ['adapter_rows', inner, `${module}_width`]),
    graph.input(`${module}B`, 'float32', ['adapter_rows', `${module}_width`, half]),
  ])
  const options = { name: 'w', product: 'gate_up', input: 'x', outputs: ['gate_up'], inner, outer }
  quantizedMatMul({ graph, kernels: 'own' }, layout, options)
  graph.node('apart', 'GatedUp', ['gate_up', 'x', ...adapters], {
    domain: 'dutyfree',
    outputs: ['apart'],
  })
  const weights = ['x', ...blockInputs('w', layout)]
  while (weights.length < 5) weights.push('')
  graph.node('joined', 'GatedProduct', [...weights, ...adapters], {
    domain: 'dutyfree',
    outputs: ['joined'],
    attributes: blockAttributes(layout, { inner, outer }),
  })
  for (const name of ['apart', 'joined']) graph.output(name, 'float32', ['rows', 'tokens', half])
  const session = openGraph(dir, matrix, threads, graph)
  return {
    compute(inputs: GatedInputs): readonly [apart: Float32Array, joined: Float32Array] {
      const shape = [...inputs.x.shape.slice(0, 2), half]
      const [apart, joined] = run(session, inputs, { apart: shape, joined: shape })
      return [apart!, joined!]
    },
    close: () => session.release(),
  }
}
