// The fewest tokens that a text can have, from its bytes alone: a text that cannot fit is refused in
// milliseconds, where its tokens would cost seconds.
//
// A token of k bytes holds bytes of which each is in no token longer than L(byte), and k ≤ L of each:
// so Σ 1 / L(byte) over its bytes is at most 1, and the sum over a text is at most its number of tokens.

import type { Tokenizer } from './tokenizer.ts'

export type FewestTokens = (text: string) => number

export function createFewestTokens({
  vocabSize,
  tokenBytes,
}: Pick<Tokenizer, 'vocabSize' | 'tokenBytes'>): FewestTokens {
  const longest = new Float64Array(256)
  for (let id = 0; id < vocabSize; id++) {
    const bytes = tokenBytes(id)
    for (const byte of bytes) longest[byte] = Math.max(longest[byte]!, bytes.length)
  }
  // A byte that no token holds is left out of the text.
  const shares = longest.map((length) => (length === 0 ? 0 : 1 / length))

  function sum(text: string): number {
    let total = 0
    for (const byte of Buffer.from(text, 'utf8')) total += shares[byte]!
    // The sum of many fractions may come out a little too large.
    return Math.ceil(total * (1 - 1e-9) - 1e-6)
  }

  return (text) => {
    const composed = text.normalize('NFC')
    // Whether the tokenizer composes is its own affair: the smaller one holds for both.
    return composed === text ? sum(text) : Math.min(sum(text), sum(composed))
  }
}
