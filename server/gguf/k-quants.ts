// K-quants: super-blocks of 256 values. A half float d (and dmin) scales small whole scales, one
// for each 16 or 32 values: value = (d·scale)·q, or (d·scale)·q − (dmin·min). Products of a half
// float and these whole numbers are exact in float32; the difference is rounded when it is stored.
//
//   Q2_K  scales[16]  q[64]  d  dmin           Q5_K  d  dmin  scales[12]  h[32]  q[128]
//   Q3_K  h[32]  q[64]  scales[12]  d          Q6_K  q[128]  h[64]  scales[16] (int8)  d
//   Q4_K  d  dmin  scales[12]  q[128]

import { halfValues } from '../contracts/float16.ts'
import { blockFormats } from './block-formats.ts'
import type { Dequantize } from './dequantize.ts'

const { Q2_K, Q3_K, Q4_K, Q5_K, Q6_K } = blockFormats

/** Two bits a value: byte i of a half's 32 holds its values i, i + 32, i + 64 and i + 96. */
function q2k(bytes: Uint8Array, values: Float32Array): void {
  const half = halfValues()
  let block = 0
  for (let at = 0; at < values.length; at += 256, block += Q2_K.bytes) {
    const d = half[bytes[block + 80]! | (bytes[block + 81]! << 8)]!
    const dmin = half[bytes[block + 82]! | (bytes[block + 83]! << 8)]!
    for (let group = 0; group < 16; group++) {
      const scale = bytes[block + group]!
      const dl = d * (scale & 15)
      const ml = dmin * (scale >> 4)
      const shift = ((group >> 1) & 3) << 1
      const from = block + 16 + (group >> 3) * 32 + (group & 1) * 16
      const to = at + group * 16
      for (let i = 0; i < 16; i++) values[to + i] = dl * ((bytes[from + i]! >> shift) & 3) - ml
    }
  }
}

/** As Q2_K with a third bit in h. Where that bit is 0, 4 is taken away. */
function q3k(bytes: Uint8Array, values: Float32Array): void {
  const half = halfValues()
  let block = 0
  for (let at = 0; at < values.length; at += 256, block += Q3_K.bytes) {
    const d = half[bytes[block + 108]! | (bytes[block + 109]! << 8)]!
    for (let group = 0; group < 16; group++) {
      const low = (bytes[block + 96 + (group & 7)]! >> ((group >> 3) << 2)) & 15
      const high = (bytes[block + 104 + (group & 3)]! >> ((group >> 2) << 1)) & 3
      const dl = d * ((low | (high << 4)) - 32)
      const shift = ((group >> 1) & 3) << 1
      const bit = group >> 1
      const inHalf = (group & 1) * 16
      const from = block + 32 + (group >> 3) * 32 + inHalf
      const highFrom = block + inHalf
      const to = at + group * 16
      for (let i = 0; i < 16; i++) {
        const isHigh = (bytes[highFrom + i]! >> bit) & 1
        values[to + i] = dl * (((bytes[from + i]! >> shift) & 3) - 4 + (isHigh << 2))
      }
    }
  }
}

/** Scale (offset 0) or minimum (offset 4) of a group of 32: six bits, for groups 4 to 7 in two places. */
function sixBits(bytes: Uint8Array, scales: number, group: number, offset: 0 | 4): number {
  if (group < 4) return bytes[scales + offset + group]! & 63
  const low = (bytes[scales + 4 + group]! >> offset) & 15
  return low | ((bytes[scales + offset + group - 4]! >> 2) & 48)
}

/** Four bits a value: byte i of a pair of groups holds value i of the first and of the second. */
function q4k(bytes: Uint8Array, values: Float32Array): void {
  const half = halfValues()
  let block = 0
  for (let at = 0; at < values.length; at += 256, block += Q4_K.bytes) {
    const d = half[bytes[block]! | (bytes[block + 1]! << 8)]!
    const dmin = half[bytes[block + 2]! | (bytes[block + 3]! << 8)]!
    for (let group = 0; group < 8; group++) {
      const dl = d * sixBits(bytes, block + 4, group, 0)
      const ml = dmin * sixBits(bytes, block + 4, group, 4)
      const shift = (group & 1) << 2
      const from = block + 16 + (group >> 1) * 32
      const to = at + group * 32
      for (let i = 0; i < 32; i++) values[to + i] = dl * ((bytes[from + i]! >> shift) & 15) - ml
    }
  }
}

/** As Q4_K with a fifth bit: bit g of h[i] belongs to value i of group g. */
function q5k(bytes: Uint8Array, values: Float32Array): void {
  const half = halfValues()
  let block = 0
  for (let at = 0; at < values.length; at += 256, block += Q5_K.bytes) {
    const d = half[bytes[block]! | (bytes[block + 1]! << 8)]!
    const dmin = half[bytes[block + 2]! | (bytes[block + 3]! << 8)]!
    for (let group = 0; group < 8; group++) {
      const dl = d * sixBits(bytes, block + 4, group, 0)
      const ml = dmin * sixBits(bytes, block + 4, group, 4)
      const shift = (group & 1) << 2
      const highFrom = block + 16
      const from = block + 48 + (group >> 1) * 32
      const to = at + group * 32
      for (let i = 0; i < 32; i++) {
        const low = (bytes[from + i]! >> shift) & 15
        const high = (bytes[highFrom + i]! >> group) & 1
        values[to + i] = dl * (low | (high << 4)) - ml
      }
    }
  }
}

/** Six bits a value, less 32. Runs of 32: each half of the block has four, in two bits of h each. */
function q6k(bytes: Uint8Array, values: Float32Array): void {
  const half = halfValues()
  let block = 0
  for (let at = 0; at < values.length; at += 256, block += Q6_K.bytes) {
    const d = half[bytes[block + 208]! | (bytes[block + 209]! << 8)]!
    for (let group = 0; group < 16; group++) {
      const dl = d * ((bytes[block + 192 + group]! << 24) >> 24)
      const run = group >> 1
      const inRun = (group & 1) * 16
      const shift = ((run >> 1) & 1) << 2
      const from = block + (run >> 2) * 64 + (run & 1) * 32 + inRun
      const highShift = (run & 3) << 1
      const highFrom = block + 128 + (run >> 2) * 32 + inRun
      const to = at + group * 16
      for (let i = 0; i < 16; i++) {
        const low = (bytes[from + i]! >> shift) & 15
        const high = (bytes[highFrom + i]! >> highShift) & 3
        values[to + i] = dl * ((low | (high << 4)) - 32)
      }
    }
  }
}

export const kQuants = {
  Q2_K: q2k,
  Q3_K: q3k,
  Q4_K: q4k,
  Q5_K: q5k,
  Q6_K: q6k,
} as const satisfies Record<string, Dequantize>
