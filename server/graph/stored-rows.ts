// Blocks as a GGUF file holds them → the layout of quantize.ts, without another rounding: every format
// of contracts/stored-blocks.ts is d · q + m with an integer q in each block of 32.
//
//   the file:  half d (, half m), then 16 bytes: values 0 … 15 in the low halves, 16 … 31 in the high
//   here:      two neighbours a byte (4 bits) or a byte each (8), d and m as float32

import { halfValues } from '../contracts/float16.ts'
import { type StoredType, storedBlocks } from '../contracts/stored-blocks.ts'

export interface StoredLayout {
  readonly bits: 4 | 8
  readonly hasMins: boolean
}

export interface StoredRows {
  /** [rows, columns / 32, 4 · bits], as QuantizedRows. */
  readonly data: Uint8Array
  /** [rows, columns / 32] */
  readonly scales: Float32Array
  /** [rows, columns / 32]; empty where the layout has none. */
  readonly mins: Float32Array
}

const block = 32

/** What matrices of these formats that share one product are held in: each number fits in it exactly. */
export function commonLayout(types: readonly StoredType[]): StoredLayout {
  const bits = types.some((type) => storedBlocks[type].bits === 8) ? 8 : 4
  return { bits, hasMins: types.some((type) => storedBlocks[type].hasMins) }
}

/**
 * Whole rows, whose length is a multiple of the format's block. Where the layout has mins, 4-bit integers
 * begin at 0 and 8-bit ones at −128; else both are around the middle of their range.
 */
export function storedRows(bytes: Uint8Array, type: StoredType, layout: StoredLayout): StoredRows {
  const { bits, hasMins } = layout
  const format = storedBlocks[type]
  const parts = format.values / block
  const numBlocks = (bytes.length / format.bytes) * parts
  const blobBytes = (block * bits) / 8
  const data = new Uint8Array(numBlocks * blobBytes)
  const scales = new Float32Array(numBlocks)
  const mins = new Float32Array(hasMins ? numBlocks : 0)
  const read = readers[type]
  const part: Part = { integers: new Int16Array(block), scale: 0, min: 0, halves: halfValues() }
  // A format around zero that shares a layout with mins: d · (q + 8) − 8 d, which is exact.
  const isMoved = bits === 4 && hasMins && !format.hasMins
  const shift = bits === 8 ? 128 : hasMins && !isMoved ? 0 : 8
  for (let b = 0; b < numBlocks; b++) {
    read(bytes, Math.floor(b / parts) * format.bytes, b % parts, part)
    scales[b] = part.scale
    if (hasMins) mins[b] = isMoved ? -8 * part.scale : part.min
    if (bits === 8) writeBytes(part.integers, shift, data, b * blobBytes)
    else writeHalves(part.integers, shift, data, b * blobBytes)
  }
  return { data, scales, mins }
}

function writeBytes(integers: Int16Array, shift: number, data: Uint8Array, at: number): void {
  for (let i = 0; i < block; i++) data[at + i] = integers[i]! + shift
}

function writeHalves(integers: Int16Array, shift: number, data: Uint8Array, at: number): void {
  for (let i = 0; i < block; i += 2) {
    data[at + (i >> 1)] = (integers[i]! + shift) | ((integers[i + 1]! + shift) << 4)
  }
}

/** 32 values: scale · integer + min. */
interface Part {
  readonly integers: Int16Array
  scale: number
  min: number
  /** The value of each half float. */
  readonly halves: Float32Array
}

/** Reads the 32 values with that index in the block that begins at `at`. */
type ReadPart = (bytes: Uint8Array, at: number, index: number, part: Part) => void

const readers: Readonly<Record<StoredType, ReadPart>> = {
  Q4_0(bytes, at, _, part) {
    part.scale = halfAt(bytes, at, part)
    readHalves(bytes, at + 2, -8, part.integers)
  },
  Q4_1(bytes, at, _, part) {
    part.scale = halfAt(bytes, at, part)
    part.min = halfAt(bytes, at + 2, part)
    readHalves(bytes, at + 4, 0, part.integers)
  },
  Q5_0(bytes, at, _, part) {
    part.scale = halfAt(bytes, at, part)
    readHalves(bytes, at + 6, -16, part.integers)
    addFifthBits(bytes, at + 2, part.integers)
  },
  Q5_1(bytes, at, _, part) {
    part.scale = halfAt(bytes, at, part)
    part.min = halfAt(bytes, at + 2, part)
    readHalves(bytes, at + 8, 0, part.integers)
    addFifthBits(bytes, at + 4, part.integers)
  },
  Q8_0(bytes, at, _, part) {
    part.scale = halfAt(bytes, at, part)
    for (let i = 0; i < block; i++) part.integers[i] = (bytes[at + 2 + i]! << 24) >> 24
  },
  IQ4_NL(bytes, at, _, part) {
    part.scale = halfAt(bytes, at, part)
    readHalves(bytes, at + 2, 0, part.integers)
    lookUp(part.integers)
  },
  // half d, 16 bits: two high ones of each scale, 4 bytes: four low ones of each, then 8 · 16 bytes.
  IQ4_XS(bytes, at, index, part) {
    const high = ((bytes[at + 2]! | (bytes[at + 3]! << 8)) >> (2 * index)) & 3
    const low = (bytes[at + 4 + (index >> 1)]! >> (4 * (index & 1))) & 15
    part.scale = halfAt(bytes, at, part) * ((low | (high << 4)) - 32)
    readHalves(bytes, at + 8 + 16 * index, 0, part.integers)
    lookUp(part.integers)
  },
  // half d, half dmin, 12 bytes of scales, then 4 · 32 bytes: 32 values in the low halves, 32 in the high.
  Q4_K(bytes, at, index, part) {
    readScales(bytes, at, index, part)
    readQuarter(bytes, at + 16, index, part.integers)
  },
  // The same with 32 bytes before those: bit `index` of each is the fifth bit.
  Q5_K(bytes, at, index, part) {
    readScales(bytes, at, index, part)
    readQuarter(bytes, at + 48, index, part.integers)
    for (let i = 0; i < block; i++) {
      part.integers[i]! += ((bytes[at + 16 + i]! >> index) & 1) << 4
    }
  },
}

function halfAt(bytes: Uint8Array, at: number, { halves }: Part): number {
  return halves[bytes[at]! | (bytes[at + 1]! << 8)]!
}

/** 16 bytes: values 0 … 15 in the low halves, the others in the high ones. */
function readHalves(bytes: Uint8Array, from: number, shift: number, to: Int16Array): void {
  for (let i = 0; i < 16; i++) {
    const byte = bytes[from + i]!
    to[i] = (byte & 15) + shift
    to[i + 16] = (byte >> 4) + shift
  }
}

/** 32 bits, one a value. */
function addFifthBits(bytes: Uint8Array, from: number, to: Int16Array): void {
  for (let i = 0; i < block; i++) to[i]! += ((bytes[from + (i >> 3)]! >> (i & 7)) & 1) << 4
}

/** What the sixteen codes of the "non-linear" formats stand for. */
const codes = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113] as const

function lookUp(integers: Int16Array): void {
  for (let i = 0; i < block; i++) integers[i] = codes[integers[i]!]!
}

/**
 * Six bits each for eight scales and eight mins, in 12 bytes: 0 … 3 hold the first four scales and, on
 * top, two bits of the later ones; 4 … 7 the same of the mins; 8 … 11 the low halves of both.
 */
function readScales(bytes: Uint8Array, at: number, index: number, part: Part): void {
  const own = at + 4 + (index & 3)
  const late = index >= 4
  const both = bytes[own + 8]!
  const scale = late ? (both & 15) | ((bytes[own]! >> 6) << 4) : bytes[own]! & 63
  const min = late ? (both >> 4) | ((bytes[own + 4]! >> 6) << 4) : bytes[own + 4]! & 63
  part.scale = halfAt(bytes, at, part) * scale
  part.min = -halfAt(bytes, at + 2, part) * min
}

function readQuarter(bytes: Uint8Array, at: number, index: number, to: Int16Array): void {
  const from = at + 32 * (index >> 1)
  const shift = 4 * (index & 1)
  for (let i = 0; i < block; i++) to[i] = (bytes[from + i]! >> shift) & 15
}
