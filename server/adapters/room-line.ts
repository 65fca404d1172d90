// Requests that wait until adapters of others are let go, first come, first served.

import { ServerError } from '../errors.ts'

export type RoomLine = ReturnType<typeof createRoomLine>

export function createRoomLine() {
  /** The first of them tries each time something was let go. */
  const waiting: { wake: () => void }[] = []

  return {
    get isEmpty() {
      return waiting.length === 0
    },

    roomMayBeFree(): void {
      waiting[0]?.wake()
    },

    /** Tries until it gets something; null means that there is no room yet. */
    async wait<T>(attempt: () => Promise<T | null>, signal: AbortSignal): Promise<T> {
      const place = { wake: () => {} }
      waiting.push(place)
      const wakeUp = () => place.wake()
      signal.addEventListener('abort', wakeUp)
      try {
        for (;;) {
          if (signal.aborted) {
            throw new ServerError('adapter_limit', 'The wait for room for adapters was ended.')
          }
          // Before the attempt, so that what is let go during it counts.
          const woken = new Promise<void>((resolve) => {
            place.wake = resolve
          })
          if (waiting[0] === place) {
            const result = await attempt()
            if (result !== null) return result
          }
          await woken
        }
      } finally {
        signal.removeEventListener('abort', wakeUp)
        waiting.splice(waiting.indexOf(place), 1)
        waiting[0]?.wake()
      }
    },
  }
}
