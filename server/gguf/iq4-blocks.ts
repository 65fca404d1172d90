// IQ4: four bits a value that choose one of 16 uneven levels; value = d·level, or (d·scale)·level.
//
//   IQ4_NL  d  q[16]                          32 values; halves of q[i] as in Q4_0
//   IQ4_XS  d  high  scales[4]  q[128]        256 values in groups of 32, each with a 6-bit scale:
//                                             four bits in scales, two in the 16 of high
//
// All products are exact in float32.

import { halfValues } from '../contracts/float16.ts'
import { blockFormats } from './block-formats.ts'
import type { Dequantize } from './dequantize.ts'

const levels = Int8Array.of(
  ...[-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113],
)

function fillGroup(
  bytes: Uint8Array,
  from: number,
  scale: number,
  values: Float32Array,
  to: number,
): void {
  for (let i = 0; i < 16; i++) {
    const byte = bytes[from + i]!
    values[to + i] = scale * levels[byte & 15]!
    values[to + i + 16] = scale * levels[byte >> 4]!
  }
}

function iq4nl(bytes: Uint8Array, values: Float32Array): void {
  const half = halfValues()
  let block = 0
  for (let at = 0; at < values.length; at += 32, block += blockFormats.IQ4_NL.bytes) {
    const d = half[bytes[block]! | (bytes[block + 1]! << 8)]!
    fillGroup(bytes, block + 2, d, values, at)
  }
}

function iq4xs(bytes: Uint8Array, values: Float32Array): void {
  const half = halfValues()
  let block = 0
  for (let at = 0; at < values.length; at += 256, block += blockFormats.IQ4_XS.bytes) {
    const d = half[bytes[block]! | (bytes[block + 1]! << 8)]!
    const highs = bytes[block + 2]! | (bytes[block + 3]! << 8)
    for (let group = 0; group < 8; group++) {
      const low = (bytes[block + 4 + (group >> 1)]! >> ((group & 1) << 2)) & 15
      const high = (highs >> (2 * group)) & 3
      const scale = d * ((low | (high << 4)) - 32)
      fillGroup(bytes, block + 8 + group * 16, scale, values, at + group * 32)
    }
  }
}

export const iq4Blocks = {
  IQ4_NL: iq4nl,
  IQ4_XS: iq4xs,
} as const satisfies Record<string, Dequantize>
