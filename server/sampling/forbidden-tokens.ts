// Tokens that must not come now: end tokens below min_tokens, and the last token of each bad word whose
// others stand at the end of what was said.

import type { SamplingParams } from '../contracts/generation.ts'

/** `badWords`: each as the tokens that spell it. */
export function createForbiddenTokens(
  { minTokens }: Pick<SamplingParams, 'minTokens'>,
  endTokens: readonly number[],
  badWords: readonly (readonly number[])[],
) {
  return {
    /** Of the token that follows these. */
    next(tokens: readonly number[]): readonly number[] {
      const ends = tokens.length < minTokens ? endTokens : []
      return badWords.length === 0 ? ends : [...ends, ...lastOfBegun(badWords, tokens)]
    },
  }
}

function lastOfBegun(
  words: readonly (readonly number[])[],
  tokens: readonly number[],
): readonly number[] {
  return words.flatMap((word) => {
    const from = tokens.length - word.length + 1
    const isBegun = from >= 0 && word.slice(0, -1).every((id, i) => tokens[from + i] === id)
    return isBegun ? word.at(-1)! : []
  })
}
