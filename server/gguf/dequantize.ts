// Which types are read, and how. The values equal those of the Python package gguf bit for bit.

import type { GgufType } from './block-formats.ts'
import { iq4Blocks } from './iq4-blocks.ts'
import { kQuants } from './k-quants.ts'
import { plainNumbers } from './plain-numbers.ts'
import { simpleBlocks } from './simple-blocks.ts'

/** Fills `values` from whole blocks; there are exactly as many as it takes. */
export type Dequantize = (bytes: Uint8Array, values: Float32Array) => void

const dequantizers = { ...plainNumbers, ...simpleBlocks, ...kQuants, ...iq4Blocks }

export const readableTypes = Object.keys(dequantizers)

export function findDequantizer(type: GgufType): Dequantize | undefined {
  return (dequantizers as Readonly<Record<string, Dequantize>>)[type]
}
