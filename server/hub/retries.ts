// Does a piece of work again when what failed may pass: later each time, and not for ever.

import type { Logger } from '../contracts/logger.ts'
import { findFailure } from './failure.ts'

export interface RetryOptions {
  /** Resolves after so many milliseconds; rejects when the server stops. */
  readonly wait: (ms: number) => Promise<unknown>
  readonly signal: AbortSignal
  readonly logger: Logger
}

/** Work that calls `onProgress` has got further than ever before: its failures are counted anew. */
type Work<T> = (onProgress: () => void) => Promise<T>

export type Retry = <T>(what: string, work: Work<T>) => Promise<T>

const maxFailuresInARow = 5
const firstWaitMs = 500
/** A hub that wants longer is asked again after this. */
const longestWaitMs = 300_000

export function createRetry({ wait, signal, logger }: RetryOptions): Retry {
  return async (what, work) => {
    let failuresInARow = 0
    for (;;) {
      try {
        return await work(() => {
          failuresInARow = 0
        })
      } catch (error) {
        signal.throwIfAborted()
        const failure = findFailure(error)
        if (!failure?.isPassing || ++failuresInARow >= maxFailuresInARow) throw failure ?? error
        const backoffMs = firstWaitMs * 2 ** (failuresInARow - 1)
        const waitMs = Math.min(failure.retryAfterMs ?? backoffMs, longestWaitMs)
        const { status, reason } = failure
        logger.warn({ what, status, reason, waitMs }, 'the hub failed: trying again')
        await wait(waitMs)
      }
    }
  }
}
