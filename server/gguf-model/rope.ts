// Rope settings of a GGUF file → rope_scaling of config.json. Llama 3's scaling comes as a tensor of
// divisors, one for each frequency: the settings that they were made from are found again.

import { z } from 'zod'
import type { GgufFile } from '../gguf/gguf-file.ts'
import type { Metadata } from './metadata.ts'
import { shortestDecimal } from './metadata.ts'

export const ropeFields = {
  'rope.freq_base': z.number().positive().optional(),
  'rope.dimension_count': z.int().positive().optional(),
  'rope.scaling.type': z.string().optional(),
  'rope.scaling.factor': z.number().nonnegative().optional(),
  'rope.scaling.original_context_length': z.int().nonnegative().optional(),
  'rope.scaling.attn_factor': z.number().optional(),
  'rope.scaling.yarn_log_multiplier': z.number().optional(),
  'rope.scaling.yarn_ext_factor': z.number().optional(),
  'rope.scaling.yarn_attn_factor': z.number().optional(),
  'rope.scaling.yarn_beta_fast': z.number().optional(),
  'rope.scaling.yarn_beta_slow': z.number().optional(),
  /** Of older files: linear. */
  'rope.scale_linear': z.number().positive().optional(),
}
const ropeSchema = z.object(ropeFields)
type RopeModel = z.infer<typeof ropeSchema>

/** Settings of YaRN that config.json has no word for, and what means nothing. */
const neutralYarn: Readonly<Record<string, number>> = {
  'rope.scaling.attn_factor': 1,
  'rope.scaling.yarn_log_multiplier': 0,
  'rope.scaling.yarn_ext_factor': 1,
  'rope.scaling.yarn_attn_factor': 1,
}

/** Divisors of the frequencies, as Llama 3.1 and later have them. */
export const divisorsName = 'rope_freqs.weight'

interface RopeSource {
  readonly file: GgufFile
  readonly metadata: Metadata
  readonly family: string
  readonly model: RopeModel
  readonly headDim: number
}

type RopeScaling = Readonly<Record<string, string | number>>

/** Null: frequencies as they are. */
export function readRopeScaling(source: RopeSource): RopeScaling | null {
  const { file, metadata, family, model } = source
  const linear = model['rope.scale_linear'] ?? 1
  const kind = model['rope.scaling.type'] ?? (linear === 1 ? 'none' : 'linear')
  const factor = shortestDecimal(model['rope.scaling.factor'] || linear)
  if (file.tensors.has(divisorsName)) {
    if (kind === 'none') return readLlama3(source)
    metadata.refuse(divisorsName, `stands beside rope.scaling.type "${kind}": not supported`)
  }
  switch (kind) {
    case 'none':
      return null
    case 'linear':
      return factor === 1 ? null : { rope_type: 'linear', factor }
    case 'yarn':
      return readYarn(source, factor)
    default:
      return metadata.refuse(
        `${family}.rope.scaling.type`,
        `is ${JSON.stringify(kind.slice(0, 60))}; none, linear and yarn are supported`,
      )
  }
}

function readYarn({ metadata, family, model }: RopeSource, factor: number): RopeScaling {
  for (const [key, value] of Object.entries(neutralYarn)) {
    const given = model[key as keyof RopeModel] ?? value
    // A negative one stands for the default.
    if (given === value || Number(given) < 0) continue
    metadata.refuse(`${family}.${key}`, `is ${given}; only ${value} is supported`)
  }
  const original = model['rope.scaling.original_context_length']
  if (!original) metadata.invalid(`${family}.rope.scaling.original_context_length`, 'is missing')
  return {
    rope_type: 'yarn',
    factor,
    original_max_position_embeddings: original as number,
    ...positive('beta_fast', model['rope.scaling.yarn_beta_fast']),
    ...positive('beta_slow', model['rope.scaling.yarn_beta_slow']),
  }
}

function positive(name: string, value: number | undefined): RopeScaling {
  return value !== undefined && value > 0 ? { [name]: shortestDecimal(value) } : {}
}

const lowFreqFactor = 1
const highFreqFactor = 4
/** The longest context before scaling, where no divisor tells. */
const usualOriginal = 8192
/** Of a divisor that was computed in float32. */
const tolerance = 1e-4

function readLlama3({ file, metadata, model, headDim }: RopeSource): RopeScaling | null {
  const divisors = file.readFloat32(divisorsName)
  const base = model['rope.freq_base'] ?? 10_000
  const half = headDim / 2
  if (divisors.length !== half || !divisors.every((value) => Number.isFinite(value) && value > 0)) {
    metadata.invalid(divisorsName, `must hold ${half} positive numbers`)
  }
  const factor = shortestDecimal(Math.max(...divisors))
  if (divisors.every((value) => value === 1)) return null
  const lengths = Array.from({ length: half }, (_, i) => 2 * Math.PI * base ** ((2 * i) / headDim))
  const original = originalOf(divisors, lengths, factor)
  const isLlama3 = divisors.every((value, i) => {
    const expected = llama3Divisor(lengths[i]!, factor, original)
    return Math.abs(value - expected) <= tolerance * expected
  })
  if (!isLlama3)
    metadata.refuse(divisorsName, "holds divisors that are not Llama 3's: not supported")
  return {
    rope_type: 'llama3',
    factor,
    low_freq_factor: lowFreqFactor,
    high_freq_factor: highFreqFactor,
    original_max_position_embeddings: original,
  }
}

/** Short waves are kept, long ones slowed by `factor`; those between are mixed. */
function llama3Divisor(length: number, factor: number, original: number): number {
  const turns = original / length
  if (turns > highFreqFactor) return 1
  if (turns < lowFreqFactor) return factor
  const kept = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)
  return 1 / ((1 - kept) / factor + kept)
}

/** From the divisor that lies farthest between the two ends; llama3Divisor solved for it. */
function originalOf(divisors: Float32Array, lengths: readonly number[], factor: number): number {
  const keptOf = (value: number) => (1 / value - 1 / factor) / (1 - 1 / factor)
  const distances = [...divisors].map((value) => Math.abs(keptOf(value) - 0.5))
  const i = distances.indexOf(Math.min(...distances))
  if (distances[i]! > 0.49) return usualOriginal
  const turns = lowFreqFactor + keptOf(divisors[i]!) * (highFreqFactor - lowFreqFactor)
  return Math.round(turns * lengths[i]!)
}
