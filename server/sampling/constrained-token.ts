// The next token of a reply that a grammar acts on: free within a thought, else one of those that the
// grammar lets through, or an end token where the answer may end.

import type { GrammarWalk } from '../contracts/constraint.ts'
import { isAllowed } from './allowed-tokens.ts'
import type { createReplyParser } from './reply-parser.ts'
import type { SamplerInput } from './sampler.ts'

/** Samples with some of the sampler's input changed. */
export type Choose = (more: Partial<Pick<SamplerInput, 'forbidden' | 'only'>>) => number

export interface ConstrainedOptions {
  readonly parser: ReturnType<typeof createReplyParser>
  /** It knows what may come. */
  readonly walk: GrammarWalk
  readonly ends: readonly number[]
  readonly forbidden: readonly number[]
  /** Nothing was said yet. */
  readonly isFirst: boolean
}

/** Null: the grammar is at its end, and no token would say so. */
export function chooseConstrained(
  choose: Choose,
  { parser, walk, ends, forbidden, isFirst }: ConstrainedOptions,
): number | null {
  if (parser.section === 'reasoning') return chooseThought(choose, parser, forbidden)
  const allowed = walk.allowed!
  const others = allowed.mayEnd ? ends.filter((id) => !isAllowed(allowed, id)) : []
  if (isFirst && parser.opening !== undefined) others.push(parser.opening)
  if (allowed.numTokens + others.length === 0) return null
  const isLeft = allowed.numTokens > 0 || others.some((id) => !forbidden.includes(id))
  return choose({ only: { allowed, others }, forbidden: isLeft ? forbidden : [] })
}

/** A token that closes the thought says nothing of the answer: no grammar has seen it. */
function chooseThought(
  choose: Choose,
  parser: ConstrainedOptions['parser'],
  forbidden: readonly number[],
): number {
  const early: number[] = []
  for (;;) {
    const token = choose({ forbidden: [...forbidden, ...early] })
    if (!parser.isClosingEarly(token)) return token
    early.push(token)
  }
}
