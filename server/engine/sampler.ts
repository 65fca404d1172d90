// From logits to a token. Pure: what was generated so far, the parameters and a uniform number go
// in, a token comes out. Order: penalties, bias, temperature, top_k, top_p, min_p.

import type { SamplingParams } from '../contracts/generation.ts'

export interface SamplerInput {
  /** [vocab]; never written. */
  readonly logits: Float32Array
  readonly params: SamplingParams
  /** How often each token was generated. */
  readonly outputCounts: ReadonlyMap<number, number>
  /** Distinct tokens of the prompt; only read when repetitionPenalty is not 1. */
  readonly promptTokens: ReadonlySet<number>
  /** Tokens that must not come now (end tokens below min_tokens). */
  readonly forbidden: readonly number[]
  /** In [0, 1). */
  readonly uniform: () => number
}

/** Thrown when the graph gave no number at all: a broken weight or adapter. */
export class NonFiniteLogitsError extends Error {
  override readonly name = 'NonFiniteLogitsError'
}

interface Candidate {
  readonly id: number
  readonly logit: number
}

export function sample(input: SamplerInput): number {
  const { params } = input
  const logits = adjustLogits(input)
  const best = argmax(logits)
  if (params.temperature === 0) return best
  const top = logits[best] ?? 0
  const inverseTemperature = 1 / params.temperature
  const weight = (logit: number) => Math.exp((logit - top) * inverseTemperature)

  if (params.topK === 0 && params.topP === 1 && params.minP === 0) {
    return sampleAll(logits, weight, input.uniform())
  }
  const kept = keep(logits, { params, weight, top, inverseTemperature })
  const mass = kept.reduce((sum, { logit }) => sum + weight(logit), 0)
  let rest = input.uniform() * mass
  for (const { id, logit } of kept) {
    rest -= weight(logit)
    if (rest < 0) return id
  }
  return kept.at(-1)?.id ?? best
}

/** Ties go to the lower id. Throws NonFiniteLogitsError on NaN, +∞ or nothing but −∞. */
export function argmax(logits: Float32Array): number {
  let best = -1
  let top = Number.NEGATIVE_INFINITY
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number
    if (logit > top) {
      top = logit
      best = id
    } else if (Number.isNaN(logit)) {
      throw new NonFiniteLogitsError('the model gave NaN logits')
    }
  }
  if (!Number.isFinite(top)) throw new NonFiniteLogitsError('the model gave infinite logits')
  return best
}

function adjustLogits(input: SamplerInput): Float32Array {
  const { params, outputCounts, promptTokens, forbidden } = input
  const repeats = params.repetitionPenalty !== 1
  const counts = params.presencePenalty !== 0 || params.frequencyPenalty !== 0
  if (!repeats && !counts && params.logitBias.length === 0 && forbidden.length === 0) {
    return input.logits
  }
  const logits = input.logits.slice()
  if (repeats) {
    const seen = new Set([...promptTokens, ...outputCounts.keys()])
    for (const id of seen) {
      const logit = logits[id] ?? 0
      logits[id] = logit > 0 ? logit / params.repetitionPenalty : logit * params.repetitionPenalty
    }
  }
  for (const [id, count] of counts ? outputCounts : []) {
    logits[id] = (logits[id] ?? 0) - params.presencePenalty - params.frequencyPenalty * count
  }
  for (const [id, bias] of params.logitBias) logits[id] = (logits[id] ?? 0) + bias
  for (const id of forbidden) logits[id] = Number.NEGATIVE_INFINITY
  return logits
}

/** Every token may come: one pass for the mass, one to find the place; no sorting. */
function sampleAll(logits: Float32Array, weight: (logit: number) => number, uniform: number) {
  let mass = 0
  for (const logit of logits) mass += weight(logit)
  let rest = uniform * mass
  let last = 0
  for (let id = 0; id < logits.length; id++) {
    const w = weight(logits[id] as number)
    if (w === 0) continue
    rest -= w
    last = id
    if (rest < 0) return id
  }
  return last
}

/** The tokens that top_k, top_p and min_p leave, most likely first. Sorts only a head of them. */
function keep(
  logits: Float32Array,
  options: {
    params: SamplingParams
    weight: (logit: number) => number
    top: number
    inverseTemperature: number
  },
): Candidate[] {
  const { params, weight, top, inverseTemperature } = options
  let mass = 0
  if (params.topP < 1 && params.topK === 0) for (const logit of logits) mass += weight(logit)

  // Widen the head until it surely holds all that may be kept.
  for (let depth = 8; ; depth *= 4) {
    const floor = top - depth / inverseTemperature
    const head: Candidate[] = []
    for (let id = 0; id < logits.length; id++) {
      const logit = logits[id] as number
      if (logit >= floor && logit !== Number.NEGATIVE_INFINITY) head.push({ id, logit })
    }
    const isWhole = depth > 1e4
    if (params.topK > 0 && head.length < params.topK && !isWhole) continue
    head.sort((x, y) => y.logit - x.logit || x.id - y.id)
    if (params.topK > 0 && head.length > params.topK) head.length = params.topK
    if (params.topK > 0) mass = head.reduce((sum, { logit }) => sum + weight(logit), 0)
    if (params.topP < 1) {
      let cumulative = 0
      const end = head.findIndex(({ logit }) => {
        cumulative += weight(logit)
        return cumulative >= params.topP * mass
      })
      if (end < 0 && !isWhole) continue
      if (end >= 0) head.length = end + 1
    }
    if (params.minP > 0) {
      if (weight(floor) > params.minP && !isWhole) continue
      const end = head.findIndex(({ logit }) => weight(logit) < params.minP)
      if (end > 0) head.length = end
    }
    return head
  }
}
