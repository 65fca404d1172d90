// Requests that wait until adapters of others are released, first come, first served.

import { ServerError } from '../errors.ts'

export function createMemoryQueue() {
  /** The first of them tries each time something was released. */
  const waiting: { wake: () => void }[] = []

  return {
    get isEmpty() {
      return waiting.length === 0
    },

    memoryMayBeFree(): void {
      waiting[0]?.wake()
    },

    /** Tries until it gets something; null means that there is no memory yet. */
    async wait<T>(attempt: () => Promise<T | null>, signal: AbortSignal): Promise<T> {
      const entry = { wake: () => {} }
      waiting.push(entry)
      const wakeUp = () => entry.wake()
      signal.addEventListener('abort', wakeUp)
      try {
        for (;;) {
          if (signal.aborted) {
            throw new ServerError(
              'adapter_limit',
              'The wait for room in --adapter-memory was ended.',
            )
          }
          // Before the attempt, so that a release during it counts.
          const woken = new Promise<void>((resolve) => {
            entry.wake = resolve
          })
          if (waiting[0] === entry) {
            const result = await attempt()
            if (result !== null) return result
          }
          await woken
        }
      } finally {
        signal.removeEventListener('abort', wakeUp)
        waiting.splice(waiting.indexOf(entry), 1)
        waiting[0]?.wake()
      }
    },
  }
}
