// Holds back what one choice says until a verdict covers it. Text is never told before it passed, and
// the text that was flagged is never told at all.

import type { GenerationEvent } from '../contracts/generation.ts'

interface Held {
  readonly event: GenerationEvent
  /** Tokens of the reply that it speaks of, with all before it. */
  readonly numTokens: number
}

export interface GateOptions {
  /** False: everything is told at once, as where a verdict is only told. */
  readonly holds: boolean
}

export function createGate({ holds }: GateOptions) {
  let held: Held[] = []
  let passedTokens = 0

  return {
    /** What can be told now of events that came with the reply's first `numTokens` tokens. */
    push(events: readonly GenerationEvent[], numTokens: number): readonly GenerationEvent[] {
      if (!holds) return events
      held.push(...events.map((event) => ({ event, numTokens })))
      return this.pass(passedTokens)
    },
    /** A verdict passed on the first `numTokens` tokens: what waited up to there, in order. */
    pass(numTokens: number): readonly GenerationEvent[] {
      passedTokens = Math.max(passedTokens, numTokens)
      const next = held.findIndex((item) => item.numTokens > passedTokens)
      const told = next < 0 ? held : held.slice(0, next)
      held = next < 0 ? [] : held.slice(next)
      return told.map(({ event }) => event)
    },
    /** A verdict did not pass: what waits is dropped. */
    drop(): void {
      held = []
    },
  }
}
