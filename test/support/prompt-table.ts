// A prompt's log-probabilities between their two shapes: flat, as they travel, and one by one.

import {
  type PromptLogprobs,
  type PromptToken,
  promptTokenAt,
} from '../../server/contracts/prompt-logprobs.ts'

type WrittenToken = PromptToken & { readonly bytes: readonly number[] }

/** All tokens have as many alternatives, but for the first, which has none. */
export function toPromptTable(tokens: readonly WrittenToken[]): PromptLogprobs {
  const numTop = tokens[1]?.top.length ?? 0
  const width = 1 + numTop
  const words = new Int32Array(tokens.length * width)
  const logprobs = new Float64Array(tokens.length * width)
  const texts = new Map<number, string>()
  for (const [i, token] of tokens.entries()) {
    for (const [j, { id, token: text, logprob }] of [token, ...token.top].entries()) {
      if (!texts.has(id)) texts.set(id, text)
      words[i * width + j] = [...texts.keys()].indexOf(id)
      logprobs[i * width + j] = logprob ?? 0
    }
  }
  let end = 0
  return {
    numTop,
    words,
    logprobs,
    ranks: Int32Array.from(tokens, ({ rank }) => rank ?? 0),
    ids: Int32Array.from(texts.keys()),
    texts: [...texts.values()],
    bytes: Uint8Array.from(tokens.flatMap(({ bytes }) => bytes)),
    ends: Int32Array.from(tokens, ({ bytes }) => (end += bytes.length)),
  }
}

export function toPromptTokens(table: PromptLogprobs): PromptToken[] {
  return Array.from(table.ranks, (_, i) => promptTokenAt(table, i))
}
