// Rows side by side: where each word of each row lies, however the rows come.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { inTiles } from '../server/graph/tiles.ts'

/** Bytes of a row of each part: whole words, and not. */
const widths = [12, 4, 3]
const numRows = 37

const rowsOf = (part: number) =>
  Uint8Array.from({ length: numRows * widths[part]! }, (_, i) => (i * 7 + part * 31) % 251)

/** All rows, `sizes` of them at a time. */
function inPieces(sizes: readonly number[]): Uint8Array[] {
  let first = 0
  const pieces = sizes.map((count) => {
    const piece = widths.map((width, part) =>
      rowsOf(part).subarray(first * width, (first + count) * width),
    )
    first += count
    return piece
  })
  assert.equal(first, numRows)
  const tiles = [...inTiles(pieces, widths)]
  return widths.map((_, part) => Buffer.concat(tiles.map((piece) => piece[part]!)))
}

describe('rows in tiles', () => {
  it('lie word by word beside those of their tile; what is filled up is zero', () => {
    for (const [part, bytes] of inPieces([numRows]).entries()) {
      const [rows, width] = [rowsOf(part), widths[part]!]
      const numWords = Math.ceil(width / 4)
      assert.equal(bytes.length, 48 * numWords * 4)
      for (let row = 0; row < 48; row++) {
        for (let i = 0; i < numWords * 4; i++) {
          const word = (Math.floor(row / 16) * numWords + Math.floor(i / 4)) * 16 + (row % 16)
          const expected = row < numRows && i < width ? rows[row * width + i] : 0
          assert.equal(bytes[word * 4 + (i % 4)], expected, `part ${part}, row ${row}, byte ${i}`)
        }
      }
    }
  })

  it('are the same however the rows come', () => {
    const whole = inPieces([numRows])
    for (const sizes of [[16, 21], [1, 2, 3, 31], [5, 0, 32], Array(numRows).fill(1)]) {
      assert.deepEqual(inPieces(sizes), whole)
    }
  })
})
