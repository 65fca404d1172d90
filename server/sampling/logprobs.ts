// Log-probabilities of the model's own distribution: before penalties, bias and temperature.

import { massOf, stepsPerLogit } from './softmax.ts'

export interface RankedToken {
  readonly id: number
  readonly logprob: number
}

/** A token that was sampled elsewhere. */
export interface SampledToken {
  readonly id: number
  /** Its own, and those of the likeliest, most likely first; null: they were not asked for. */
  readonly logprobs: { readonly sampled: RankedToken; readonly top: readonly RankedToken[] } | null
}

/** A prompt's token in its place: 1 is the rank of the likeliest. */
export interface RankedPlace {
  readonly sampled: RankedToken
  readonly rank: number
  readonly top: RankedToken[]
}

/**
 * The sampled token's log-probability and rank, and the `count` most likely tokens, most likely first;
 * behind them those of `also` that are not among them.
 */
export function logprobsOf(
  logits: Float32Array,
  sampled: number,
  count: number,
  also: readonly number[] = [],
): RankedPlace {
  const own = logits[sampled]!
  let most = Number.NEGATIVE_INFINITY
  let rank = 1
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!
    if (logit > most) most = logit
    if (logit > own) rank++
  }
  const best = bestOf(logits, count)
  const normaliser = most + Math.log(massOf(logits, most, stepsPerLogit(1)))
  const ranked = (id: number) => ({ id, logprob: logits[id]! - normaliser })
  const top = also.length === 0 ? best : [...new Set([...best, ...also])]
  return { sampled: ranked(sampled), rank, top: top.map(ranked) }
}

/** The `count` tokens of the largest logits, largest first; ties stay in the order of their ids. */
function bestOf(logits: Float32Array, count: number): number[] {
  const best: number[] = []
  // Nothing is ≤ NaN: as long as there is room everything comes in.
  let least = count > 0 ? Number.NaN : Number.POSITIVE_INFINITY
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!
    if (logit <= least) continue
    let at = best.length
    while (at > 0 && logits[best[at - 1]!]! < logit) at--
    best.splice(at, 0, id)
    if (best.length > count) best.pop()
    if (best.length === count) least = logits[best[count - 1]!]!
  }
  return best
}
