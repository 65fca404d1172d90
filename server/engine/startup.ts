// The first token before the first request: it touches every weight and has the device compile what it
// must, so no client waits for that; a model that gives no numbers is refused before it serves. What
// was needed until then is told.

import type { ModelInfo } from '../contracts/engine.ts'
import { ServerError } from '../errors.ts'
import type { StepRunner } from '../loop/step-runner.ts'

export type Startup = ModelInfo['startup']

export interface StartupClock {
  /** Monotonic milliseconds. */
  readonly now: () => number
  readonly peakRssBytes: () => number
}

export function createStartup({ now, peakRssBytes }: StartupClock) {
  const startedAt = now()
  let convertedAt = startedAt
  const seconds = (from: number, to: number) => Math.round(to - from) / 1000
  return {
    markConverted(): void {
      convertedAt = now()
    },

    /** Computes a token after two others, in a row that the first sequence overwrites. */
    async warmUp(runner: Pick<StepRunner, 'prefill'>): Promise<Startup> {
      const loadedAt = now()
      const input = { row: 0, tokens: [0, 1], past: 0, components: [], numLogits: 1 }
      const logits = await runner.prefill(input)
      if (!logits.every(Number.isFinite)) {
        throw new ServerError(
          'invalid_checkpoint',
          'The model gives logits that are no numbers: its weights are damaged, or --weights is too coarse for them.',
        )
      }
      const end = now()
      return {
        convertSeconds: seconds(startedAt, convertedAt),
        loadSeconds: seconds(convertedAt, loadedAt),
        firstTokenSeconds: seconds(loadedAt, end),
        peakRssBytes: peakRssBytes(),
      }
    },
  }
}
