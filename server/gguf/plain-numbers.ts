// Tensors of plain numbers, as float32. F64 is rounded, the others are exact.

import { halfValues } from '../contracts/float16.ts'
import type { Dequantize } from './dequantize.ts'

function f32(bytes: Uint8Array, values: Float32Array): void {
  new Uint8Array(values.buffer, values.byteOffset, bytes.length).set(bytes)
}

function f16(bytes: Uint8Array, values: Float32Array): void {
  const table = halfValues()
  for (let i = 0; i < values.length; i++)
    values[i] = table[bytes[2 * i]! | (bytes[2 * i + 1]! << 8)]!
}

function bf16(bytes: Uint8Array, values: Float32Array): void {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length)
  for (let i = 0; i < words.length; i++) {
    words[i] = (bytes[2 * i]! << 16) | (bytes[2 * i + 1]! << 24)
  }
}

function f64(bytes: Uint8Array, values: Float32Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  for (let i = 0; i < values.length; i++) values[i] = view.getFloat64(8 * i, true)
}

export const plainNumbers = {
  F32: f32,
  F16: f16,
  BF16: bf16,
  F64: f64,
} as const satisfies Record<string, Dequantize>
