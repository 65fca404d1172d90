// vLLM's `prompt_logprobs`: for each token of the prompt a table by token id of that token and of the
// most likely ones; null for the first token, which has no logprob.

import { type PromptLogprobs, promptTokenAt } from '../../contracts/prompt-logprobs.ts'
import { each } from './lazy-list.ts'

export function promptLogprobsField(
  table: PromptLogprobs | null,
  numTop: number,
): Iterable<object | null> {
  return each(table?.ranks ?? [], (_, position) => {
    const { id, token, logprob, rank, top } = promptTokenAt(table!, position, numTop)
    if (logprob === null) return null
    const own = { [id]: { logprob, rank, decoded_token: token } }
    const best = top.map((other, i) => [
      other.id,
      { logprob: other.logprob, rank: i + 1, decoded_token: other.token },
    ])
    return { ...Object.fromEntries(best), ...own }
  })
}
