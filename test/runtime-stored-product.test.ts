// Our own product with a float min a block. The kernel's one rounding is the known one of activations: to
// 8 bits, each block of 32 by its largest. With those integers the product in float64 is the result, up
// to sums of float32.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { loadLibrary } from '../server/runtime/native-library.ts'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { openProduct, type ProductMatrix } from './support/own-product.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { pseudoRandom } from './support/tensor-files.ts'

const skip = ownKernels() === null && 'not built for this machine'
const temp = createTempFolder()
const block = 32
/** Vectors and tiles of columns are not all full. */
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

const cases = ([4, 8] as const).flatMap((bits) =>
  (['none', 'mins'] as const).map((offsets) => ({ bits, offsets })),
)

/** The matrix as the operator's input. */
function productOf({ bits, offsets, data, scales, mins }: Matrix): ProductMatrix {
  const layout = { bits, block, offsets } as const
  return { layout, inner, outer, data, scales, offsets: offsets === 'mins' ? mins : null }
}

describe('own products in blocks of 32', { skip }, () => {
  for (const { bits, offsets } of cases) {
    const name = `${bits} bits, ${offsets === 'mins' ? 'a min a block' : 'no mins'}`
    it(`${name}: the product of what the blocks hold, alone, in any batch, on any threads`, () => {
      const matrix = randomMatrix(bits, offsets)
      const one = openProduct(join(temp, `${bits}${offsets}-1`), productOf(matrix), 1)
      const two = openProduct(join(temp, `${bits}${offsets}-2`), productOf(matrix), 2)
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

// One or two rows go over a tile at once, more over its halves, several groups over pieces of it. Each
// has the same sums in the same order.
describe('own products of any number of rows', { skip }, () => {
  const layouts = ([4, 8] as const).flatMap((bits) =>
    ([32, 64, 128] as const).flatMap((block) =>
      (['none', 'zeros'] as const).map((offsets) => ({ bits, block, offsets })),
    ),
  )
  for (const layout of layouts) {
    const { bits, block, offsets } = layout
    const name = `${bits} bits in blocks of ${block}, ${offsets}`
    it(`${name}: a row among 2 to 27 is that row alone, to the bit`, () => {
      // More than one piece of a column, and a last block that is not full.
      const [inner, outer, rows] = [2120, 21, 27]
      const blocks = Math.ceil(inner / block)
      const bytes = (count: number, seed: number) =>
        Uint8Array.from(pseudoRandom(count, seed), (value) => (value + 1) * 128)
      const zeros = bytes(outer * Math.ceil((blocks * bits) / 8), 5)
      const matrix = {
        layout,
        inner,
        outer,
        data: bytes((outer * blocks * block * bits) / 8, block),
        scales: pseudoRandom(outer * blocks, 3).map((value) => value / 2 ** bits),
        offsets: offsets === 'zeros' ? zeros : null,
      }
      const product = openProduct(join(temp, `many-${bits}-${block}-${offsets}`), matrix, 2)
      try {
        const x = pseudoRandom(rows * inner, 11)
        const together = product.multiply(x)
        assert.ok(together.every(Number.isFinite))
        for (let m = 0; m < rows; m++) {
          const alone = product.multiply(x.slice(m * inner, (m + 1) * inner))
          assert.deepEqual(alone, together.slice(m * outer, (m + 1) * outer), `row ${m}`)
        }
        for (const count of [2, 3, 4, 5, 6, 7, 8, 9, 16]) {
          const some = product.multiply(x.slice(0, count * inner))
          assert.deepEqual(some, together.slice(0, count * outer), `${count} rows`)
        }
      } finally {
        product.close()
      }
    })
  }
})

// At load, the tiles of each instruction set are compared to the bit on made-up numbers. Where they
// differ, AVX2 does the work.
describe('own products by instruction set', { skip }, () => {
  const flags = new Set(
    existsSync('/proc/cpuinfo')
      ? (/^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '')
          .trim()
          .split(' ')
      : [],
  )
  const hasVnni = ['avx512vl', 'avx512bw', 'avx512dq', 'avx512_vnni'].every((name) =>
    flags.has(name),
  )

  it('has the same bits with AVX-512 as with AVX2, so uses it', {
    skip: !hasVnni && 'no AVX-512 VNNI on this processor',
  }, () => {
    const library = loadLibrary(ownKernels()!)
    assert.match(library.func('dutyfree_instructions', 'str', [])(), /^(avx512-vnni|amx-int8)$/)
  })
})
