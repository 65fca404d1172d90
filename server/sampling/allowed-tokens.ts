// The tokens that a grammar lets through, among the logits.

import type { AllowedTokens } from '../contracts/constraint.ts'
import type { UsedLogits } from './logit-blocks.ts'

export function isAllowed({ bits }: AllowedTokens, token: number): boolean {
  return (((bits[token >> 5] ?? 0) >>> (token & 31)) & 1) === 1
}

/** The logits of the tokens that may come: those of the text, and others by their ids. */
export function pickLogits(
  logits: Float32Array,
  { bits, numTokens }: AllowedTokens,
  others: readonly number[],
  forbidden: readonly number[],
): UsedLogits {
  const ids = new Int32Array(numTokens + others.length)
  let size = 0
  for (let word = 0; word < bits.length; word++) {
    for (let rest = bits[word]!; rest !== 0; rest &= rest - 1) {
      ids[size++] = word * 32 + 31 - Math.clz32(rest & -rest)
    }
  }
  for (const id of others) ids[size++] = id
  const kept = forbidden.length === 0 ? ids : ids.filter((id) => !forbidden.includes(id))
  // In the order of the ids, as without a grammar.
  const sorted = others.length === 0 ? kept : kept.sort()
  const picked = new Float32Array(sorted.length)
  for (let i = 0; i < sorted.length; i++) picked[i] = logits[sorted[i]!]!
  return { logits: picked, idOf: (index) => sorted[index]! }
}
