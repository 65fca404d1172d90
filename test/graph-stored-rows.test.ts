// Blocks of a GGUF file in our layout: scale · integer + min is the number that the file holds, bit for
// bit but for the sign of zero, in every format and in every layout that it may share with others.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { isStoredType, type StoredType, storedBlocks } from '../server/contracts/stored-blocks.ts'
import { blockFormats } from '../server/gguf/block-formats.ts'
import { findDequantizer } from '../server/gguf/dequantize.ts'
import { commonLayout, type StoredLayout, storedRows } from '../server/graph/stored-rows.ts'
import { randomBlocks } from './support/random-gguf.ts'

const types = Object.keys(storedBlocks) as StoredType[]
const columns = 512
const rows = 6
const count = rows * columns

/** What the layout stands for, as our operators read it. */
function valuesOf(bytes: Uint8Array, type: StoredType, layout: StoredLayout): Float32Array {
  const { data, scales, mins } = storedRows(bytes, type, layout)
  const { bits, hasMins } = layout
  const zero = bits === 8 ? 128 : hasMins ? 0 : 8
  assert.equal(mins.length, hasMins ? scales.length : 0)
  assert.equal(data.length, (count * bits) / 8)
  return Float32Array.from({ length: count }, (_, i) => {
    const q = bits === 8 ? data[i]! : (data[i >> 1]! >> (4 * (i & 1))) & 15
    const product = scales[i >> 5]! * (q - zero)
    return product + (hasMins ? mins[i >> 5]! : 0)
  })
}

function valuesOfFile(bytes: Uint8Array, type: StoredType): Float32Array {
  const values = new Float32Array(count)
  findDequantizer(type)!(bytes, values)
  return values.map((value) => value + 0)
}

describe('rows as a GGUF file stores them', () => {
  for (const type of types) {
    const partners = types.filter((other) => columns % storedBlocks[other].values === 0)
    it(`${type}: the same numbers alone and beside each other format`, () => {
      const bytes = randomBlocks(type, count, 0.1, 7)
      const want = valuesOfFile(bytes, type)
      assert.ok(new Set(want).size > count / 20, 'the values are all alike')
      for (const other of partners) {
        assert.deepEqual(valuesOf(bytes, type, commonLayout([type, other])), want, other)
      }
    })

    it(`${type}: has the size that GGUF says`, () => {
      const { values, bytes } = storedBlocks[type]
      assert.deepEqual(
        { values, bytes },
        { values: blockFormats[type].values, bytes: blockFormats[type].bytes },
      )
    })
  }

  it('4 bits stay 4 bits where no neighbour needs 8', () => {
    assert.deepEqual(commonLayout(['Q4_0']), { bits: 4, hasMins: false })
    assert.deepEqual(commonLayout(['Q4_0', 'Q4_K']), { bits: 4, hasMins: true })
    assert.deepEqual(commonLayout(['Q4_1', 'Q8_0']), { bits: 8, hasMins: true })
    assert.ok(!isStoredType('Q6_K') && !isStoredType('toString'))
  })
})
