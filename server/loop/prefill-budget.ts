// How many prompt tokens may be computed between two decode steps, so that streams under way do not
// stand still for longer than a target. Learns from each chunk how long a token takes.

export interface PrefillBudgetOptions {
  readonly maxChunk: number
  /** Longest pause of the running streams, in ms. */
  readonly targetMs: number
}

/** Fewer tokens cost about as much: the weights are read all the same. */
const leastTokens = 16
/** Before anything was measured. */
const firstGuess = 64

export type PrefillBudget = ReturnType<typeof createPrefillBudget>

export function createPrefillBudget({ maxChunk, targetMs }: PrefillBudgetOptions) {
  const least = Math.min(leastTokens, maxChunk)
  let tokens = Math.min(firstGuess, maxChunk)
  return {
    /** Tokens that take about the target. */
    get tokens() {
      return tokens
    },
    /** A chunk of so many tokens took so long. Short ones tell nothing of long ones. */
    observe(numTokens: number, ms: number): void {
      if (numTokens < least || ms <= 0) return
      const affordable = Math.floor((numTokens * targetMs) / ms)
      // Growth by at most a factor of two: a lucky measurement must not stall anybody.
      tokens = Math.max(least, Math.min(affordable, 2 * Math.max(tokens, numTokens), maxChunk))
    },
  }
}
