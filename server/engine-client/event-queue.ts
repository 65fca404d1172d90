// A request's events on their way from the engine to their reader. The queue ends after the terminal
// event and drops whatever comes later.

import { type GenerationEvent, isTerminal } from '../contracts/generation.ts'
import { createDeferred } from './deferred.ts'

export type EventQueue = ReturnType<typeof createEventQueue>

export function createEventQueue() {
  const buffer: GenerationEvent[] = []
  const whenEnded = createDeferred<void>()
  let hasEnded = false
  let wake: (() => void) | undefined

  async function* read(): AsyncGenerator<GenerationEvent, void> {
    for (;;) {
      const event = buffer.shift()
      if (event === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
        continue
      }
      yield event
      if (isTerminal(event)) return
    }
  }

  return {
    push(event: GenerationEvent): void {
      if (hasEnded) return
      buffer.push(event)
      if (isTerminal(event)) {
        hasEnded = true
        whenEnded.resolve()
      }
      wake?.()
    },
    /** May be read once. */
    events: read() as AsyncIterable<GenerationEvent>,
    /** Resolves with the terminal event. */
    ended: whenEnded.promise,
  }
}
