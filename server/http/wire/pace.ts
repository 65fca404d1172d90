// Long work in slices: others get the event loop between them.

import { setImmediate as nextTurn } from 'node:timers/promises'

const sliceMs = 8

export interface Pace {
  /** Resolves at once, or a turn later where the slice is used up. */
  step(): Promise<void> | undefined
}

export function createPace(now: () => number = () => performance.now()): Pace {
  let end = now() + sliceMs
  return {
    step() {
      if (now() < end) return undefined
      return nextTurn().then(() => {
        end = now() + sliceMs
      })
    },
  }
}
