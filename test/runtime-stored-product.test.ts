// Our own product with a float min a block. The kernel's one rounding is the known one of activations: to
// 8 bits, each block of 32 by its largest. With those integers the product in float64 is the result, up
// to sums of float32.

import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { productTensors } from '../server/graph/block-matrix.ts'
import { createGraphBuilder } from '../server/graph/builder.ts'
import { encodeModel, placeWeights, weightsFileName } from '../server/graph/encoding.ts'
import { quantizedMatMul } from '../server/graph/linear.ts'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { allocateTensor, openSession } from '../server/runtime/session.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { pseudoRandom } from './support/tensor-files.ts'

const skip = ownKernels() === null && 'not built for this machine'
const temp = createTempFolder()
const block = 32
/** An odd number of blocks: those of 4 bits go in pairs. Tiles of columns are not all full. */
const [inner, outer] = [7 * block, 37]
const numBlocks = inner / block
/** Relative to the sum of the products' sizes; the sums have some 200 terms. */
const tolerance = 1e-6

type Offsets = 'none' | 'mins'

interface Matrix {
  readonly bits: 4 | 8
  readonly offsets: Offsets
  readonly data: Uint8Array
  readonly scales: Float32Array
  readonly mins: Float32Array
}

function randomMatrix(bits: 4 | 8, offsets: Offsets): Matrix {
  const noise = pseudoRandom((outer * inner * bits) / 8, bits)
  const scales = pseudoRandom(outer * numBlocks, 3).map((value) => value / 2 ** bits)
  return {
    bits,
    offsets,
    data: Uint8Array.from(noise, (value) => (value + 1) * 128),
    scales,
    mins: pseudoRandom(outer * numBlocks, 5),
  }
}

function weightAt({ bits, offsets, data, scales, mins }: Matrix, n: number, k: number): number {
  const i = n * inner + k
  const q = bits === 8 ? data[i]! : (data[i >> 1]! >> (4 * (i & 1))) & 15
  const at = n * numBlocks + Math.floor(k / block)
  if (offsets === 'mins') return scales[at]! * (q - (bits === 8 ? 128 : 0)) + mins[at]!
  return scales[at]! * (q - (bits === 8 ? 128 : 8))
}

function nearestEven(value: number): number {
  const floor = Math.floor(value)
  if (value - floor !== 0.5) return Math.round(value)
  return floor + (floor & 1)
}

/** Activations as the kernel rounds them. */
function rounded(x: Float32Array): Float64Array {
  const to = new Float64Array(x.length)
  for (let from = 0; from < x.length; from += block) {
    const largest = x
      .subarray(from, from + block)
      .reduce((most, v) => Math.max(most, Math.abs(v)), 0)
    const inverse = Math.fround(127 / largest)
    const scale = Math.fround(largest / 127)
    for (let i = from; i < from + block; i++) {
      to[i] = scale * nearestEven(Math.fround(x[i]! * inverse))
    }
  }
  return to
}

/** Opens the operator over this matrix; its input is x [rows, inner]. */
function openProduct(name: string, matrix: Matrix, threads: number) {
  const { bits, offsets, data, scales, mins } = matrix
  const graph = createGraphBuilder()
  const layout = { bits, block, offsets } as const
  graph.input('x', 'float32', ['rows', inner])
  const parts = [
    data,
    graph.floatBytes(scales),
    ...(offsets === 'mins' ? [graph.floatBytes(mins)] : []),
  ]
  graph.weights({
    tensors: productTensors(graph, 'w', layout, { inner, outer }),
    pieces: () => [parts],
  })
  const options = { name: 'w', product: 'y', input: 'x', outputs: ['y'], inner, outer }
  quantizedMatMul({ graph, kernels: 'own' }, layout, options)
  graph.output('y', 'float32', ['rows', outer])
  const built = graph.build()
  const { placements, size } = placeWeights(built)
  const file = Buffer.alloc(size)
  for (const [i, { offset }] of placements.entries()) file.set(parts[i]!, offset)
  const dir = join(temp, `${name}-${threads}`)
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

const cases = ([4, 8] as const).flatMap((bits) =>
  (['none', 'mins'] as const).map((offsets) => ({ bits, offsets })),
)

describe('own products in blocks of 32', { skip }, () => {
  for (const { bits, offsets } of cases) {
    const name = `${bits} bits, ${offsets === 'mins' ? 'a min a block' : 'no mins'}`
    it(`${name}: the product of what the blocks hold, alone, in any batch, on any threads`, () => {
      const matrix = randomMatrix(bits, offsets)
      const one = openProduct(`${bits}${offsets}`, matrix, 1)
      const two = openProduct(`${bits}${offsets}`, matrix, 2)
      try {
        const rows = 19 // Two whole groups of rows and a part of one.
        const x = pseudoRandom(rows * inner, 11).map((value, i) => value * (1 + (i % 5)))
        const together = one.multiply(x)
        assert.deepEqual(two.multiply(x), together)
        for (let count = 1; count <= 9; count++) {
          const first = rows - count
          const some = one.multiply(x.slice(first * inner))
          assert.deepEqual(some, together.slice(first * outer), `${count} rows`)
        }
        const exact = rounded(x)
        for (let m = 0; m < rows; m++) {
          for (let n = 0; n < outer; n++) {
            let [sum, size] = [0, 0]
            for (let k = 0; k < inner; k++) {
              const product = exact[m * inner + k]! * weightAt(matrix, n, k)
              sum += product
              size += Math.abs(product)
            }
            const difference = Math.abs(together[m * outer + n]! - sum) / size
            assert.ok(difference <= tolerance, `row ${m}, column ${n}: off by ${difference}`)
          }
        }
      } finally {
        one.close()
        two.close()
      }
    })
  }
})
