// Block quantisation as the MatMulNBits operator reads it: each row of W [N, K] is cut into blocks
// along K; a block has one float32 scale and 4- or 8-bit integers around a fixed middle (8 or 128).

import type { QuantizedBits } from '../contracts/checkpoint.ts'

export interface QuantizedRows {
  /** [rows, K / block, block · bits / 8], two 4-bit values a byte, the even one in the low half. */
  readonly data: Uint8Array
  /** [rows, K / block] */
  readonly scales: Float32Array
}

export interface QuantizeOptions {
  readonly bits: QuantizedBits
  readonly block: number
  /** Columns of the matrix; the last block of a row is padded with zeros when it is not full. */
  readonly columns: number
}

export const blocksPerRow = ({ block, columns }: QuantizeOptions): number =>
  Math.ceil(columns / block)

/** Symmetric: the value of largest magnitude in a block takes the lowest integer exactly. */
export function quantizeRows(values: Float32Array, options: QuantizeOptions): QuantizedRows {
  const { bits, block, columns } = options
  const rows = values.length / columns
  const numBlocks = blocksPerRow(options)
  const blobBytes = (block * bits) / 8
  const middle = 2 ** (bits - 1)
  const highest = 2 ** bits - 1
  const data = new Uint8Array(rows * numBlocks * blobBytes)
  const scales = new Float32Array(rows * numBlocks)
  for (let row = 0; row < rows; row++) {
    for (let b = 0; b < numBlocks; b++) {
      const start = row * columns + b * block
      const length = Math.min(block, columns - b * block)
      let extreme = 0
      for (let i = start; i < start + length; i++) {
        const value = values[i] as number
        if (Math.abs(value) > Math.abs(extreme)) extreme = value
      }
      const at = row * numBlocks + b
      const scale = Math.fround(extreme / -middle)
      const inverse = scale === 0 ? 0 : 1 / scale
      scales[at] = scale
      const blob = at * blobBytes
      for (let i = 0; i < block; i++) {
        const value = i < length ? (values[start + i] as number) : 0
        const rounded = Math.round(value * inverse) + middle
        const q = Math.min(Math.max(rounded, 0), highest)
        if (bits === 8) data[blob + i] = q
        else data[blob + (i >> 1)] = (data[blob + (i >> 1)] as number) | (q << ((i & 1) * 4))
      }
    }
  }
  return { data, scales }
}

/** The values that quantised rows stand for, [rows, columns]. */
export function dequantizeRows(
  { data, scales }: QuantizedRows,
  options: QuantizeOptions,
): Float32Array {
  const { bits, block, columns } = options
  const numBlocks = blocksPerRow(options)
  const rows = scales.length / numBlocks
  const blobBytes = (block * bits) / 8
  const middle = 2 ** (bits - 1)
  const values = new Float32Array(rows * columns)
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const at = row * numBlocks + Math.floor(column / block)
      const i = column % block
      const byte = data[at * blobBytes + (bits === 8 ? i : i >> 1)] as number
      const q = bits === 8 ? byte : (byte >> ((i & 1) * 4)) & 15
      values[row * columns + column] = (q - middle) * (scales[at] as number)
    }
  }
  return values
}
