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
  const mass = kept.reduce((sum, id) => sum + weight(logits[id] as number), 0)
  let rest = input.uniform() * mass
  for (const id of kept) {
    rest -= weight(logits[id] as number)
    if (rest < 0) return id
  }
  return kept.at(-1) ?? best
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

/** The tokens that top_k, top_p and min_p leave, by id. Sorts only a head of them. */
function keep(
  logits: Float32Array,
  options: {
    params: SamplingParams
    weight: (logit: number) => number
    top: number
    inverseTemperature: number
  },
): number[] {
  const { params, weight, top, inverseTemperature } = options
  let mass = 0
  if (params.topP < 1 && params.topK === 0) for (const logit of logits) mass += weight(logit)

  // Widen the head until it surely holds all that may be kept.
  for (let depth = 8; ; depth *= 4) {
    const floor = top - depth / inverseTemperature
    const { head, isAll } = takeHead(logits, floor)
    const isWhole = isAll || depth > 1e4
    if (params.topK > 0 && head.length < params.topK && !isWhole) continue
    let count = params.topK > 0 ? Math.min(params.topK, head.length) : head.length
    if (params.topK > 0) {
      mass = 0
      for (let rank = 0; rank < count; rank++) mass += weight(head[rank] as number)
    }
    if (params.topP < 1) {
      let cumulative = 0
      let rank = 0
      while (rank < count && cumulative < params.topP * mass) {
        cumulative += weight(head[rank++] as number)
      }
      if (cumulative < params.topP * mass && !isWhole) continue
      count = Math.max(1, rank)
    }
    if (params.minP > 0) {
      if (weight(floor) > params.minP && !isWhole) continue
      while (count > 1 && weight(head[count - 1] as number) < params.minP) count--
    }
    return takeBest(logits, count, head)
  }
}

/** Logits from `floor` on, largest first, and whether that is every token that can come. */
function takeHead(logits: Float32Array, floor: number): { head: Float32Array; isAll: boolean } {
  const values = new Float32Array(logits.length)
  let size = 0
  let numImpossible = 0
  for (const logit of logits) {
    if (logit === Number.NEGATIVE_INFINITY) numImpossible++
    else if (logit >= floor) values[size++] = logit
  }
  // A typed array sorts numbers natively; objects would take ten times as long.
  const head = values.subarray(0, size).sort().reverse()
  return { head, isAll: size + numImpossible === logits.length }
}

/** The `count` tokens of the largest logits, given those sorted; ties go to the lower ids. */
function takeBest(logits: Float32Array, count: number, sorted: Float32Array): number[] {
  const least = sorted[count - 1] as number
  let numTies = count - sorted.indexOf(least)
  const ids: number[] = []
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number
    if (logit > least) ids.push(id)
    else if (logit === least && numTies-- > 0) ids.push(id)
  }
  return ids
}
