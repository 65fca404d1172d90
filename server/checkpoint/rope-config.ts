// Rope settings of config.json, in the spelling of transformers 5 (`rope_parameters`) and the older
// one (`rope_theta` and `rope_scaling`). Missing values are filled as transformers fills them.

import { z } from 'zod'
import type { RopeScaling } from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'

const positive = z.number().positive()

export const ropeSchema = z.looseObject({
  rope_type: z.string().nullish(),
  /** The older name of rope_type. */
  type: z.string().nullish(),
  rope_theta: positive.nullish(),
  factor: positive.nullish(),
  low_freq_factor: positive.nullish(),
  high_freq_factor: positive.nullish(),
  original_max_position_embeddings: z.int().positive().nullish(),
  attention_factor: z.number().nonnegative().nullish(),
  beta_fast: z.number().nonnegative().nullish(),
  beta_slow: z.number().nonnegative().nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  truncate: z.boolean().nullish(),
  partial_rotary_factor: z.number().nullish(),
})
type Settings = z.infer<typeof ropeSchema>

/** What config.json says of rope, on its top level. */
export interface RawRope {
  readonly rope_theta?: number | null | undefined
  readonly rope_scaling?: Settings | null | undefined
  readonly rope_parameters?: Settings | null | undefined
  readonly original_max_position_embeddings?: number | null | undefined
}

export interface Rope {
  readonly ropeTheta: number
  readonly ropeScaling: RopeScaling | null
}

/** `maxPosition` is max_position_embeddings. Throws ServerError with the field's name. */
export function readRope(raw: RawRope, maxPosition: number): Rope {
  const isOlder = raw.rope_scaling && Object.keys(raw.rope_scaling).length > 0
  const field = isOlder ? 'rope_scaling' : 'rope_parameters'
  const settings = raw[field] ?? {}
  const ropeTheta = settings.rope_theta ?? raw.rope_theta ?? 10_000
  if ((settings.partial_rotary_factor ?? 1) !== 1) {
    refuse(`${field}.partial_rotary_factor`, `is ${settings.partial_rotary_factor}; only 1 is`)
  }
  const nested = Object.entries(settings).find(
    ([, value]) => typeof value === 'object' && value !== null,
  )
  if (nested) refuse(`${field}.${nested[0]}`, 'is set; one rope for all layers is')
  const originalMaxPosition =
    raw.original_max_position_embeddings ?? settings.original_max_position_embeddings ?? maxPosition
  const ropeScaling = readScaling(settings, field, { maxPosition, originalMaxPosition })
  return { ropeTheta, ropeScaling }
}

interface Lengths {
  readonly maxPosition: number
  readonly originalMaxPosition: number
}

function readScaling(settings: Settings, field: string, lengths: Lengths): RopeScaling | null {
  function need(name: keyof Settings & string): number {
    const value = settings[name]
    if (typeof value === 'number') return value
    throw new ServerError('invalid_checkpoint', `config.json: ${field}.${name} is missing.`)
  }

  const kind = settings.rope_type ?? settings.type ?? 'default'
  switch (kind) {
    case 'default':
      return null
    case 'linear':
      return { kind, factor: need('factor') }
    case 'llama3':
      return {
        kind,
        factor: need('factor'),
        lowFreqFactor: need('low_freq_factor'),
        highFreqFactor: need('high_freq_factor'),
        originalMaxPosition: lengths.originalMaxPosition,
      }
    case 'yarn': {
      const { maxPosition, originalMaxPosition } = lengths
      // null, unlike a missing one, asks for the ratio of the two lengths.
      const factor = settings.factor === null ? maxPosition / originalMaxPosition : need('factor')
      return {
        kind,
        factor,
        attentionFactor: settings.attention_factor ?? yarnAttentionFactor(factor, settings),
        betaFast: settings.beta_fast || 32,
        betaSlow: settings.beta_slow || 1,
        originalMaxPosition,
        truncate: settings.truncate !== null && settings.truncate !== false,
      }
    }
    default:
      return refuse(`${field}.rope_type`, `is "${kind}"; default, linear, llama3 and yarn are`)
  }
}

/** 0.1 · ln(factor) + 1, or the ratio of two such with their own weights. */
function yarnAttentionFactor(factor: number, settings: Settings): number {
  const { mscale, mscale_all_dim: mscaleAllDim } = settings
  const magnitude = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1)
  return mscale && mscaleAllDim ? magnitude(mscale) / magnitude(mscaleAllDim) : magnitude(1)
}

function refuse(field: string, clause: string): never {
  throw new ServerError('unsupported_checkpoint', `config.json: ${field} ${clause} supported.`)
}
