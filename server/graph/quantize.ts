// Block quantisation as the MatMulNBits operator reads it: each row of W [N, K] is cut into blocks
// along K; a block has one float32 scale and 4- or 8-bit integers around its zero, which is the
// middle of the range (8 or 128) or an integer of the block's own. The loops are plain and without
// closures: a conversion runs them over every weight of the model.

import type { QuantizedFormat } from '../contracts/checkpoint.ts'

export interface QuantizedRows {
  /** [rows, K / block, block · bits / 8], two 4-bit values a byte, the even one in the low half. */
  readonly data: Uint8Array
  /** [rows, K / block] */
  readonly scales: Float32Array
  /** [rows, ⌈K / block · bits / 8⌉], packed like `data`; empty where zero is the middle. */
  readonly zeroPoints: Uint8Array
}

export interface QuantizeOptions extends Omit<QuantizedFormat, 'kind'> {
  /** Columns of the matrix; the last block of a row is padded with zeros when it is not full. */
  readonly columns: number
}

export function blocksPerRow({ block, columns }: { block: number; columns: number }): number {
  return Math.ceil(columns / block)
}

/** Bytes of a row's zero points. */
export function zeroPointBytes(numBlocks: number, bits: number): number {
  return Math.ceil((numBlocks * bits) / 8)
}

/** Shares of a block's whole range that its scale is tried with; below 1 its ends are clipped. */
const shares = [1, 0.92, 0.84]

export function quantizeRows(values: Float32Array, options: QuantizeOptions): QuantizedRows {
  const { bits, block, columns, zeroPoints: hasZeroPoints } = options
  const rows = values.length / columns
  const numBlocks = blocksPerRow(options)
  const blobBytes = (block * bits) / 8
  const data = new Uint8Array(rows * numBlocks * blobBytes)
  const scales = new Float32Array(rows * numBlocks)
  const zeros = new Uint8Array(rows * numBlocks).fill(2 ** (bits - 1))
  const write = bits === 8 ? writeBytes : writeHalves
  for (let row = 0; row < rows; row++) {
    for (let b = 0; b < numBlocks; b++) {
      const start = row * columns + b * block
      const end = start + Math.min(block, columns - b * block)
      const at = row * numBlocks + b
      fitBlock(values, start, end, options, scales, zeros, at)
      write(values, start, end, scales[at]!, zeros[at]!, data, at * blobBytes)
      padBlob(data, at * blobBytes, end - start, options, zeros[at]!)
    }
  }
  const zeroPoints = hasZeroPoints ? packRows(zeros, rows, numBlocks, bits) : new Uint8Array(0)
  return { data, scales, zeroPoints }
}

/**
 * Symmetric: the value of largest magnitude takes the lowest integer exactly. With a zero of its own,
 * the range from the least to the greatest value (zero is in it) is cut evenly.
 */
function fitBlock(
  values: Float32Array,
  start: number,
  end: number,
  { bits, zeroPoints, searchScales }: QuantizeOptions,
  scales: Float32Array,
  zeros: Uint8Array,
  at: number,
): void {
  let least = 0
  let most = 0
  for (let i = start; i < end; i++) {
    const value = values[i]!
    if (value < least) least = value
    if (value > most) most = value
  }
  const extreme = most > -least ? most : least
  const whole = zeroPoints ? (most - least) / (2 ** bits - 1) : extreme / -(2 ** (bits - 1))
  scales[at] = whole
  if (whole === 0) return
  if (zeroPoints) zeros[at] = Math.round(-least / whole)
  if (!searchScales) return
  const zero = zeros[at]!
  let best = 0
  for (const share of shares) {
    best = improve(values, start, end, bits, whole * share, zero, best, scales, at)
  }
}

/**
 * Rounds a block with a scale and sets the scale of least squares for those integers,
 * s = Σ v·q / Σ q². The error is Σ v² − (Σ v·q)² / Σ q²: what is subtracted is the gain; returns the
 * best gain so far and leaves the scale alone when this one is smaller.
 */
function improve(
  values: Float32Array,
  start: number,
  end: number,
  bits: number,
  scale: number,
  zero: number,
  best: number,
  scales: Float32Array,
  at: number,
): number {
  const inverse = 1 / scale
  const highest = (1 << bits) - 1 - zero
  const lowest = -zero
  // Truncation rounds to the nearest when the number is positive: hence the shift.
  const shift = zero + 0.5
  let dot = 0
  let otherDot = 0
  let norm = 0
  // Two at a time, because a sum waits for the one before it. Past the end: a zero.
  for (let i = start; i < end; i += 2) {
    const value = values[i]!
    let q = ((value * inverse + shift) | 0) - zero
    if (q < lowest) q = lowest
    else if (q > highest) q = highest
    const other = i + 1 < end ? values[i + 1]! : 0
    let r = ((other * inverse + shift) | 0) - zero
    if (r < lowest) r = lowest
    else if (r > highest) r = highest
    dot += value * q
    otherDot += other * r
    norm = (norm + Math.imul(q, q) + Math.imul(r, r)) | 0
  }
  dot += otherDot
  const gain = norm === 0 ? 0 : (dot * dot) / norm
  if (gain <= best) return best
  scales[at] = dot / norm
  return gain
}

function writeBytes(
  values: Float32Array,
  start: number,
  end: number,
  scale: number,
  zero: number,
  data: Uint8Array,
  blob: number,
): void {
  const inverse = scale === 0 ? 0 : 1 / scale
  const shift = zero + 0.5
  for (let i = start; i < end; i++) {
    let q = (values[i]! * inverse + shift) | 0
    if (q < 0) q = 0
    else if (q > 255) q = 255
    data[blob + i - start] = q
  }
}

function writeHalves(
  values: Float32Array,
  start: number,
  end: number,
  scale: number,
  zero: number,
  data: Uint8Array,
  blob: number,
): void {
  const inverse = scale === 0 ? 0 : 1 / scale
  const shift = zero + 0.5
  let to = blob
  for (let i = start; i < end; i += 2) {
    let low = (values[i]! * inverse + shift) | 0
    if (low < 0) low = 0
    else if (low > 15) low = 15
    // Beyond the row's end: the zero that padding has.
    let high = i + 1 < end ? (values[i + 1]! * inverse + shift) | 0 : zero
    if (high < 0) high = 0
    else if (high > 15) high = 15
    data[to++] = low | (high << 4)
  }
}

/** Fills a block that the row does not fill, so that it stands for zeros. */
function padBlob(
  data: Uint8Array,
  blob: number,
  length: number,
  { bits, block }: QuantizeOptions,
  zero: number,
): void {
  if (length === block) return
  const first = Math.ceil((length * bits) / 8)
  data.fill(bits === 8 ? zero : zero * 17, blob + first, blob + (block * bits) / 8)
}

/** Rows of integers, two 4-bit ones a byte; each row starts on a byte. */
function packRows(zeros: Uint8Array, rows: number, numBlocks: number, bits: number): Uint8Array {
  if (bits === 8) return zeros
  const rowBytes = zeroPointBytes(numBlocks, bits)
  const packed = new Uint8Array(rows * rowBytes)
  for (let row = 0; row < rows; row++) {
    for (let b = 0; b < numBlocks; b++) {
      const to = row * rowBytes + (b >> 1)
      const zero = zeros[row * numBlocks + b]!
      packed[to] = packed[to]! | (zero << ((b & 1) * 4))
    }
  }
  return packed
}

/** The values that quantised rows stand for, [rows, columns]. */
export function dequantizeRows(
  { data, scales, zeroPoints }: QuantizedRows,
  options: QuantizeOptions,
): Float32Array {
  const { bits, block, columns } = options
  const numBlocks = blocksPerRow(options)
  const rows = scales.length / numBlocks
  const blobBytes = (block * bits) / 8
  const rowBytes = zeroPointBytes(numBlocks, bits)

  function integer(bytes: Uint8Array, from: number, i: number): number {
    const byte = bytes[from + (bits === 8 ? i : i >> 1)]!
    return bits === 8 ? byte : (byte >> ((i & 1) * 4)) & 15
  }

  const values = new Float32Array(rows * columns)
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const b = Math.floor(column / block)
      const at = row * numBlocks + b
      const zero = options.zeroPoints ? integer(zeroPoints, row * rowBytes, b) : 2 ** (bits - 1)
      const q = integer(data, at * blobBytes, column % block)
      values[row * columns + column] = (q - zero) * scales[at]!
    }
  }
  return values
}
