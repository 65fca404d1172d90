// GatedProduct beside the two operators that it joins, to the last bit: for weights of either width, with
// mins and without, and adapters of up and gate that rows have in common, of their own, or not at all.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { type GatedInputs, openGated, type ProductMatrix } from './support/own-product.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { pseudoRandom } from './support/tensor-files.ts'

const skip = ownKernels() === null && 'not built for this machine'
const temp = createTempFolder()
/** The last block is not full; a thread's columns are not all of one piece. */
const [inner, half] = [200, 1104]
const outer = 2 * half

function randomMatrix(bits: 4 | 8, offsets: 'none' | 'mins', block: 32 | 128): ProductMatrix {
  const numBlocks = Math.ceil(inner / block)
  const bytes = (numBlocks * block * bits) / 8
  return {
    layout: { bits, block, offsets },
    inner,
    outer,
    data: Uint8Array.from(pseudoRandom(outer * bytes, bits), (value) => (value + 1) * 128),
    scales: pseudoRandom(outer * numBlocks, 3).map((value) => value / 2 ** bits),
    offsets: offsets === 'mins' ? pseudoRandom(outer * numBlocks, 5) : null,
  }
}

interface Adapters {
  readonly rows: number
  readonly up: number
  readonly gate: number
}

function inputsOf(rows: number, tokens: number, adapters: Adapters): GatedInputs {
  function values(seed: number, ...shape: number[]) {
    return {
      data: pseudoRandom(
        shape.reduce((size, n) => size * n, 1),
        seed,
      ),
      shape,
    }
  }
  return {
    x: values(7, rows, tokens, inner),
    upA: values(11, adapters.rows, inner, adapters.up),
    upB: values(13, adapters.rows, adapters.up, half),
    gateA: values(17, adapters.rows, inner, adapters.gate),
    gateB: values(19, adapters.rows, adapters.gate, half),
  }
}

/** More tokens than are at hand together, too. */
const batches = [
  [1, 1],
  [1, 19],
  [3, 1],
  [9, 1],
  [2, 21],
  [1, 530],
] as const

describe('gate and up in one product', { skip }, () => {
  for (const [bits, offsets, block] of [
    [4, 'none', 128],
    [4, 'mins', 32],
    [8, 'none', 32],
    [8, 'none', 128],
  ] as const) {
    it(`give what two operators give: ${bits} bits in blocks of ${block}, ${offsets}`, () => {
      const matrix = randomMatrix(bits, offsets, block)
      for (const threads of [1, 2]) {
        const dir = join(temp, `${bits}-${offsets}-${block}-${threads}`)
        const gated = openGated(dir, matrix, threads)
        try {
          for (const [rows, tokens] of batches) {
            for (const [up, gate] of [
              [0, 0],
              [1, 0],
              [4, 2],
            ] as const) {
              for (const adapterRows of new Set([1, rows])) {
                const adapters = { rows: adapterRows, up, gate }
                const [apart, joined] = gated.compute(inputsOf(rows, tokens, adapters))
                const what = `${rows} × ${tokens}, ${JSON.stringify(adapters)}`
                assert.deepEqual(joined, apart, what)
                assert.ok(
                  joined.some((value) => Math.abs(value) > 0.01),
                  what,
                )
              }
            }
          }
        } finally {
          gated.close()
        }
      }
    })
  }
})
