// The types that an export writes weights in, from float32.

import { toHalf } from '../contracts/float16.ts'

export const exportTypes = ['float32', 'float16', 'bfloat16'] as const
export type ExportType = (typeof exportTypes)[number]

export interface FloatEncoding {
  /** As safetensors names it. */
  readonly dtype: 'F32' | 'F16' | 'BF16'
  readonly bytes: number
  /** Nearest values, ties to even; what is beyond the type becomes infinite. */
  encode(values: Float32Array): Uint8Array
}

export const encodings: Readonly<Record<ExportType, FloatEncoding>> = {
  float32: { dtype: 'F32', bytes: 4, encode: (values) => bytesOf(values) },
  float16: { dtype: 'F16', bytes: 2, encode: (values) => bytesOf(to16(values, toHalf)) },
  bfloat16: { dtype: 'BF16', bytes: 2, encode: (values) => bytesOf(toBfloat16(values)) },
}

function to16(values: Float32Array, convert: (value: number) => number): Uint16Array {
  const out = new Uint16Array(values.length)
  for (let i = 0; i < out.length; i++) out[i] = convert(values[i]!)
  return out
}

/** Of finite values: the upper half of each float32, rounded. */
function toBfloat16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const out = new Uint16Array(values.length)
  for (let i = 0; i < out.length; i++) {
    const word = words[i]!
    out[i] = (word + 0x7fff + ((word >>> 16) & 1)) >>> 16
  }
  return out
}

function bytesOf(values: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
