// Log-probabilities of the model's own distribution: before penalties, bias and temperature.

export interface RankedToken {
  readonly id: number
  readonly logprob: number
}

/** The sampled token's log-probability and the `count` most likely tokens, most likely first. */
export function logprobsOf(
  logits: Float32Array,
  sampled: number,
  count: number,
): { sampled: RankedToken; top: RankedToken[] } {
  let max = Number.NEGATIVE_INFINITY
  for (const logit of logits) if (logit > max) max = logit
  let mass = 0
  for (const logit of logits) mass += Math.exp(logit - max)
  const normaliser = max + Math.log(mass)
  const logprob = (id: number) => (logits[id] as number) - normaliser

  const top: RankedToken[] = []
  for (let id = 0; id < logits.length && count > 0; id++) {
    const value = logprob(id)
    if (top.length === count && value <= (top.at(-1)?.logprob ?? 0)) continue
    let place = top.length
    while (place > 0 && (top[place - 1]?.logprob ?? 0) < value) place--
    top.splice(place, 0, { id, logprob: value })
    if (top.length > count) top.pop()
  }
  return { sampled: { id: sampled, logprob: logprob(sampled) }, top }
}
