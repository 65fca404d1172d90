// Who may run now. A request holds one ticket per prompt until its terminal event; beyond
// --max-batch + --max-queue the answer is 429, while the server drains it is 503.

import { ServerError, shuttingDown } from '../errors.ts'

export interface Ticket {
  /** Aborted when the drain time is over: the request must end now. */
  readonly stop: AbortSignal
  /** Idempotent. */
  release(): void
}

export interface Admission {
  readonly numInFlight: number
  readonly isDraining: boolean
  /** Throws ServerError rate_limit_exceeded or shutting_down. */
  enter(options: { numPrompts: number }): Ticket
  /** Throws shutting_down once the drain began. */
  requireOpen(): void
  /** No request enters from here on. */
  drain(): void
  /** Ends what still runs. */
  stopAll(): void
  /** Resolves when nothing is in flight. */
  whenIdle(): Promise<void>
}

export function createAdmission(options: {
  readonly maxRunning: number
  readonly maxWaiting: number
  readonly monotonicMs: () => number
}): Admission {
  const { maxRunning, maxWaiting, monotonicMs } = options
  const inFlight = new Map<AbortController, number>()
  const idle = new Set<() => void>()
  let draining = false
  let numInFlight = 0
  // Exponential mean of how long a request takes, for Retry-After.
  let meanMs = 1000

  function requireOpen() {
    if (!draining) return
    throw shuttingDown()
  }

  return {
    get numInFlight() {
      return numInFlight
    },
    get isDraining() {
      return draining
    },
    requireOpen,
    enter({ numPrompts }) {
      requireOpen()
      const limit = maxRunning + maxWaiting
      // A request of more prompts than the limit may still run alone.
      if (numInFlight > 0 && numInFlight + numPrompts > limit) {
        const seconds = Math.ceil(((numInFlight / maxRunning) * meanMs) / 1000)
        throw new ServerError(
          'rate_limit_exceeded',
          `${numInFlight} requests are running or waiting and the limit is ${limit} (--max-batch + --max-queue); try again later`,
          { headers: { 'retry-after': String(Math.min(60, Math.max(1, seconds))) } },
        )
      }
      const controller = new AbortController()
      inFlight.set(controller, numPrompts)
      numInFlight += numPrompts
      const startMs = monotonicMs()
      return {
        stop: controller.signal,
        release() {
          if (!inFlight.delete(controller)) return
          numInFlight -= numPrompts
          meanMs += 0.1 * (monotonicMs() - startMs - meanMs)
          if (numInFlight > 0) return
          for (const resolve of idle) resolve()
          idle.clear()
        },
      }
    },
    drain() {
      draining = true
    },
    stopAll() {
      for (const controller of [...inFlight.keys()]) controller.abort()
    },
    whenIdle: () =>
      numInFlight === 0 ? Promise.resolve() : new Promise((resolve) => idle.add(resolve)),
  }
}
