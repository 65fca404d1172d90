// The first token before the first request. It touches every weight and lets the device compile its
// kernels, so no client waits for that. A model whose logits are not finite is refused before it serves.
// Also measures what the start took.

import type { ModelInfo } from '../contracts/engine.ts'
import { ServerError } from '../errors.ts'
import type { StepRunner } from '../loop/step-runner.ts'

export type Startup = ModelInfo['startup']

/** Of the first run. */
export const firstTokens = [0, 1] as const

export interface StartupClock {
  /** Monotonic milliseconds. */
  readonly now: () => number
  readonly peakRssBytes: () => number
}

export function createStartup({ now, peakRssBytes }: StartupClock) {
  const startedAt = now()
  let convertedAt = startedAt
  let scanMs = 0
  return {
    /** Looks at the adapters folder; its time is no time of the conversion. */
    async scan<T>(look: () => Promise<T>): Promise<T> {
      const from = now()
      const result = await look()
      scanMs = now() - from
      return result
    },

    markConverted(): void {
      convertedAt = now()
    },

    /** Computes a token after the first, in a row that the first sequence overwrites. */
    async warmUp(runner: Pick<StepRunner, 'prefill'>): Promise<Startup> {
      const loadedAt = now()
      const input = { row: 0, tokens: firstTokens, past: 0, components: [], numLogits: 1 }
      const logits = await runner.prefill(input)
      if (!logits.every(Number.isFinite)) {
        throw new ServerError(
          'invalid_checkpoint',
          'The model gives logits that are no numbers: its weights are damaged, or --weights is too coarse for them.',
        )
      }
      const end = now()
      return {
        scanSeconds: seconds(0, scanMs),
        convertSeconds: seconds(startedAt + scanMs, convertedAt),
        loadSeconds: seconds(convertedAt, loadedAt),
        firstTokenSeconds: seconds(loadedAt, end),
        peakRssBytes: peakRssBytes(),
      }
    },
  }
}

function seconds(from: number, to: number): number {
  return Math.round(to - from) / 1000
}
