// Blocks of 32 values with one scale d, and for the types "_1" one offset m: value = d·q (+ m).
//
//   Q4_0  d  q[16]          Q5_0  d  h[4]  q[16]          Q8_0  d  q[32] (int8)
//   Q4_1  d  m  q[16]       Q5_1  d  m  h[4]  q[16]
//
// d and m are half floats. The low half of q[i] belongs to value i, the high half to value i + 16;
// h has the fifth bit of each. A product of d and q is exact in float32, so that the only rounding
// is the one of the sum, which happens when it is stored.

import { halfValues } from '../contracts/float16.ts'
import { blockFormats } from './block-formats.ts'
import type { Dequantize } from './dequantize.ts'

interface SimpleBlock {
  /** Bytes of a block. */
  readonly bytes: number
  readonly hasOffset: boolean
  readonly hasFifthBit: boolean
  /** What stands for zero, where there is no offset. */
  readonly zero: number
}

function nibbles({ bytes: stride, hasOffset, hasFifthBit, zero }: SimpleBlock): Dequantize {
  const highAt = hasOffset ? 4 : 2
  const lowAt = highAt + (hasFifthBit ? 4 : 0)
  return function dequantize(bytes, values) {
    const half = halfValues()
    let block = 0
    for (let at = 0; at < values.length; at += 32, block += stride) {
      const d = half[bytes[block]! | (bytes[block + 1]! << 8)]!
      const m = hasOffset ? half[bytes[block + 2]! | (bytes[block + 3]! << 8)]! : 0
      const h = hasFifthBit ? readWord(bytes, block + highAt) : 0
      const q = block + lowAt
      // Without m nothing may be added: −0 + 0 would be +0.
      if (hasOffset) {
        for (let i = 0; i < 16; i++) {
          const byte = bytes[q + i]!
          values[at + i] = d * ((byte & 15) | (((h >>> i) & 1) << 4)) + m
          values[at + i + 16] = d * ((byte >> 4) | (((h >>> (i + 16)) & 1) << 4)) + m
        }
      } else {
        for (let i = 0; i < 16; i++) {
          const byte = bytes[q + i]!
          values[at + i] = d * (((byte & 15) | (((h >>> i) & 1) << 4)) - zero)
          values[at + i + 16] = d * (((byte >> 4) | (((h >>> (i + 16)) & 1) << 4)) - zero)
        }
      }
    }
  }
}

function q8(bytes: Uint8Array, values: Float32Array): void {
  const half = halfValues()
  const signed = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length)
  let block = 0
  for (let at = 0; at < values.length; at += 32, block += blockFormats.Q8_0.bytes) {
    const d = half[bytes[block]! | (bytes[block + 1]! << 8)]!
    for (let i = 0; i < 32; i++) values[at + i] = d * signed[block + 2 + i]!
  }
}

function readWord(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)
}

const { Q4_0, Q4_1, Q5_0, Q5_1 } = blockFormats

export const simpleBlocks = {
  Q4_0: nibbles({ bytes: Q4_0.bytes, hasOffset: false, hasFifthBit: false, zero: 8 }),
  Q4_1: nibbles({ bytes: Q4_1.bytes, hasOffset: true, hasFifthBit: false, zero: 0 }),
  Q5_0: nibbles({ bytes: Q5_0.bytes, hasOffset: false, hasFifthBit: true, zero: 16 }),
  Q5_1: nibbles({ bytes: Q5_1.bytes, hasOffset: true, hasFifthBit: true, zero: 0 }),
  Q8_0: q8,
} as const satisfies Record<string, Dequantize>
