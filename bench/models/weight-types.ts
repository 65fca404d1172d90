// The ways weights are held by the engines that are compared, and what each costs per weight.

import type { BlockSize, QuantizedBits, WeightFormat } from '../../server/contracts/checkpoint.ts'
import type { Shape } from './shapes.ts'

/** As the server holds them when nothing but the block is asked for. */
function quantized(bits: QuantizedBits, block: BlockSize): WeightFormat {
  return { kind: 'quantized', bits, block, zeroPoints: false, searchScales: bits === 4 }
}

interface WeightCost {
  /** A weight, scales included. */
  readonly bits: number
  /**
   * What the rounding alone costs models/tiny-reasoner: mean KL in nats; null: not measured.
   * docs/log/2026-11-29-openvino-beside-ours.md
   */
  readonly kl: number | null
  /** null: ours has none such. */
  readonly format: WeightFormat | null
}

export const weightTypes = {
  'int4-128': { bits: 4.25, kl: 1.48e-3, format: quantized(4, 128) },
  'int4-64': { bits: 4.5, kl: 4.95e-4, format: quantized(4, 64) },
  'int4-32': { bits: 5, kl: 5.1e-4, format: quantized(4, 32) },
  'int8-128': { bits: 8.25, kl: 1.14e-6, format: quantized(8, 128) },
  // OpenVINO: the same blocks with a half-precision scale.
  'int4-128 f16': { bits: 4.125, kl: 6.71e-4, format: null },
  'int8-128 f16': { bits: 8.125, kl: 1.06e-6, format: null },
  fp32: { bits: 32, kl: null, format: { kind: 'fp32' } },
  // llama.cpp: blocks of 32 with a half-precision scale.
  Q4_0: { bits: 4.5, kl: 8.9e-4, format: null },
  Q8_0: { bits: 8.5, kl: 7.94e-7, format: null },
  // torch
  bfloat16: { bits: 16, kl: 4.37e-8, format: null },
  float32: { bits: 32, kl: null, format: null },
} as const satisfies Record<string, WeightCost>

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
