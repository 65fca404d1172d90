// The logprobs of a plain completion: four lists over its tokens, kept as JSON texts.

import type { PromptTokenLogprobs, TokenLogprobs } from '../../contracts/generation.ts'
import { each } from './lazy-list.ts'
import { toRaw } from './raw-json.ts'

export type ShownToken = TokenLogprobs | PromptTokenLogprobs

/** Texts of one token each. */
interface TokenTexts {
  readonly token: string
  readonly logprob: string
  readonly top: string
}

export class TokenList {
  readonly texts: TokenTexts[] = []
  readonly starts: number[] = []

  /** `starts` are their places in the text. */
  add(tokens: readonly ShownToken[], starts: readonly number[]): void {
    for (const [i, one] of tokens.entries()) {
      this.texts.push({
        token: JSON.stringify(one.token),
        logprob: JSON.stringify(one.logprob),
        top: JSON.stringify(topLogprobs(one)),
      })
      this.starts.push(starts[i]!)
    }
  }
}

/** The lists one after the other, as the field of a whole answer. */
export function wholeLogprobs(lists: readonly TokenList[]) {
  const texts = lists.flatMap((list) => list.texts)
  return {
    tokens: each(texts, ({ token }) => toRaw(token)),
    token_logprobs: each(texts, ({ logprob }) => toRaw(logprob)),
    top_logprobs: each(texts, ({ top }) => toRaw(top)),
    text_offset: lists.flatMap(({ starts }) => starts),
  }
}

/** The field of a chunk. */
export function chunkLogprobs(tokens: readonly ShownToken[], starts: readonly number[]) {
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(topLogprobs),
    text_offset: starts,
  }
}

/** Of tokens that read alike (halves of a code point) the likeliest stands. */
function topLogprobs({ logprob, top }: ShownToken): Record<string, number> | null {
  if (logprob === null) return null
  const table = new Map<string, number>()
  for (const other of top) if (!table.has(other.token)) table.set(other.token, other.logprob)
  return Object.fromEntries(table)
}
