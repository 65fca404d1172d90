// Texts that are read once more on the base, where the guard was not measured on what they ran with: each
// is a sequence of its own, which takes its turn like any prompt and ends with one verdict. Nobody is told
// of it; its logits are those of the verdict that the other sequence waits for.

import { type GenerationEvent, isTerminal } from '../contracts/generation.ts'
import { createSequence, type Sequence } from './sequence.ts'

export interface ReadingsOptions {
  /** Runs it as a request of its own. */
  readonly begin: (reading: Sequence) => void
  /** It is wanted no more. */
  readonly cancel: (id: string) => void
  /** The verdict that the sequence waits for, as logits [vocab]; null: there is none. */
  readonly give: (sequence: Sequence, logits: Float32Array | null) => void
}

export type Readings = ReturnType<typeof createReadings>

export function createReadings({ begin, cancel, give }: ReadingsOptions) {
  /** Who waits, by the id of the reading. */
  const waiting = new Map<string, Sequence>()
  /** Told of an end that is the loop's own affair, too. */
  const ids = new Set<string>()

  let numBegun = 0

  function settle(id: string, logits: Float32Array | null): void {
    const sequence = waiting.get(id)
    if (sequence === undefined) return
    waiting.delete(id)
    give(sequence, logits)
  }

  return {
    /** Begins what the sequence's next verdict needs to have read. */
    beginFor(sequence: Sequence): void {
      const options = sequence.takeReading()
      if (options === null) return
      const id = `reading ${++numBegun} of ${options.request.id}`
      waiting.set(id, sequence)
      ids.add(id)
      begin(createSequence({ ...options, request: { ...options.request, id } }))
    },

    /** A verdict was computed: of a reading, it is another's. */
    collect({ request: { id } }: Sequence, logits: Float32Array | null): void {
      settle(id, logits)
    },

    /** True where an event is of a reading, and for nobody else. */
    takes(id: string, event: GenerationEvent): boolean {
      if (ids.has(id)) {
        if (isTerminal(event)) {
          ids.delete(id)
          settle(id, null)
        }
        return true
      }
      if (isTerminal(event) && waiting.size > 0) forget(id)
      return false
    },
  }

  /** The request has ended: what is read for it is for nobody. */
  function forget(id: string): void {
    for (const [reading, { request }] of waiting) {
      if (request.id !== id) continue
      waiting.delete(reading)
      cancel(reading)
    }
  }
}
