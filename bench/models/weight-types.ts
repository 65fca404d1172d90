// The ways weights are held by the engines that are compared, and what each costs per weight.

import type { BlockSize, QuantizedBits, WeightFormat } from '../../server/contracts/checkpoint.ts'
import type { Shape } from './shapes.ts'

/** As the server holds them when nothing but the block is asked for. */
function quantized(bits: QuantizedBits, block: BlockSize): WeightFormat {
  return { kind: 'quantized', bits, block, zeroPoints: false, searchScales: bits === 4 }
}

export const weightTypes = {
  'int4-128': { bits: 4.25, format: quantized(4, 128) },
  'int4-64': { bits: 4.5, format: quantized(4, 64) },
  'int4-32': { bits: 5, format: quantized(4, 32) },
  'int8-128': { bits: 8.25, format: quantized(8, 128) },
  fp32: { bits: 32, format: { kind: 'fp32' } },
  // llama.cpp: blocks of 32 with a half-precision scale.
  Q4_0: { bits: 4.5, format: null },
  Q8_0: { bits: 8.5, format: null },
  // torch
  bfloat16: { bits: 16, format: null },
  float32: { bits: 32, format: null },
} as const satisfies Record<string, { bits: number; format: WeightFormat | null }>

export type WeightType = keyof typeof weightTypes

/** Weights that every decode step reads: all matrices, lm_head included, but not the embedding. */
export function weightsPerStep(shape: Shape): number {
  const { hidden, intermediate, layers, vocab } = shape
  const kv = shape.kvHeads * (hidden / shape.heads)
  return (
    layers * (2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * intermediate) + vocab * hidden
  )
}

export function bytesPerStep(shape: Shape, type: WeightType): number {
  return (weightsPerStep(shape) * weightTypes[type].bits) / 8
}
