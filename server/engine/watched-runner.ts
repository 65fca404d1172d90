// A runner whose steps the heart tells of. A native step that never returns leaves the event loop turning:
// only its time gives it away. How long a step may take is learned, from the first token on.

import type { Heart } from '../heart/heart.ts'
import type { Runner } from '../model/runner.ts'

type Kind = 'prefill' | 'decode'

/** A step that takes so many times the longest of its kind hangs. */
const patience = 10

export interface StepBounds {
  allowanceMs(kind: Kind, tokens: number): number
  /** A step of so many tokens has taken so long. */
  learn(kind: Kind, tokens: number, ms: number): void
}

/**
 * Ten times the longest step of the kind so far, in proportion for a step of more tokens than any before:
 * generous, since a step reads the weights once whatever its tokens.
 */
export function createStepBounds(first: {
  readonly tokens: number
  readonly ms: number
}): StepBounds {
  const longest = {
    prefill: { ...first },
    decode: { tokens: 1, ms: first.ms },
  }
  return {
    allowanceMs(kind, tokens) {
      const { tokens: most, ms } = longest[kind]
      return patience * ms * Math.max(1, tokens / most)
    },
    learn(kind, tokens, ms) {
      const { tokens: most, ms: longestMs } = longest[kind]
      longest[kind] = { tokens: Math.max(tokens, most), ms: Math.max(ms, longestMs) }
    },
  }
}

export function watchRunner(
  runner: Runner,
  { heart, bounds, now }: { heart: Heart; bounds: StepBounds; now: () => number },
): Runner {
  async function watched<Result>(
    kind: Kind,
    tokens: number,
    run: () => Promise<Result>,
  ): Promise<Result> {
    const startedAt = now()
    heart.enter(kind, bounds.allowanceMs(kind, tokens))
    try {
      return await run()
    } finally {
      heart.enter('serving')
      bounds.learn(kind, tokens, now() - startedAt)
    }
  }
  return {
    ...runner,
    prefill: (input) => watched('prefill', input.tokens.length, () => runner.prefill(input)),
    decode: (batch) => watched('decode', batch.length, () => runner.decode(batch)),
    verdict: (batch, components, wanted) =>
      watched('decode', batch.length, () => runner.verdict(batch, components, wanted)),
    get probe() {
      return runner.probe
    },
    get blockMax() {
      return runner.blockMax
    },
  }
}
