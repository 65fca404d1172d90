// The 16-bit types of an export: known values, and the nearest one with ties to even.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodings } from '../server/export/float-types.ts'

const bitsOf = (type: 'float16' | 'bfloat16', ...values: number[]) => {
  const bytes = encodings[type].encode(Float32Array.from(values))
  return [...new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2)]
}

test('one, a third, and values between two neighbours', () => {
  assert.deepEqual(bitsOf('float16', 1, -2, 1 / 3, 65504), [0x3c00, 0xc000, 0x3555, 0x7bff])
  assert.deepEqual(bitsOf('bfloat16', 1, -2, 1 / 3, 3e38), [0x3f80, 0xc000, 0x3eab, 0x7f62])
  // 1 + 2^-8 and 1 + 3 * 2^-8 lie halfway: to the even one, down and up.
  assert.deepEqual(bitsOf('bfloat16', 1 + 2 ** -8, 1 + 3 * 2 ** -8), [0x3f80, 0x3f82])
  assert.deepEqual(bitsOf('bfloat16', 1 + 2 ** -8 + 2 ** -20), [0x3f81])
})
