// How many tokens of one choice's reply were told. Held-back events count once they are told.

import type { GenerationEvent } from '../contracts/generation.ts'

export interface ToldTokens {
  readonly completionTokens: number
  /** Of these, those of the thought. */
  readonly reasoningTokens: number
}

export function createTold() {
  let completionTokens = 0
  let reasoningTokens = 0

  return {
    /** Counts events that are told now, and returns them. */
    tell(events: readonly GenerationEvent[]): readonly GenerationEvent[] {
      for (const event of events) {
        if (event.kind !== 'delta') continue
        completionTokens += event.numTokens
        if (event.section === 'reasoning') reasoningTokens += event.numTokens
      }
      return events
    },
    /** All so far. */
    told: (): ToldTokens => ({ completionTokens, reasoningTokens }),
  }
}
