// The engine's heart: a thread of its own that writes a pulse to the front, also while native code or a
// long calculation blocks the event loop. What the engine does lies in memory that both share, so the
// pulse tells a loop that stands still, and a phase that makes no progress, from one that works.

import { Worker } from 'node:worker_threads'
import { numSlots, type Phase, phases, pulseMs, slots } from '../engine-client/pulse.ts'

export interface Heart {
  /** Another phase, or the same once more; it may do `allowanceMs` without progress. */
  enter(phase: Phase, allowanceMs?: number): void
  /** The phase has got on. */
  progress(): void
}

const thread = new URL(`heart-thread${import.meta.url.slice(-3)}`, import.meta.url)
const maxInt32 = 2 ** 31 - 1

export function startHeart(): Heart {
  const memory = new Int32Array(new SharedArrayBuffer(numSlots * Int32Array.BYTES_PER_ELEMENT))
  // A thread that fails falls silent, and the front ends the process.
  new Worker(thread, { workerData: memory }).unref()
  setInterval(() => Atomics.add(memory, slots.turns, 1), pulseMs).unref()

  function progress(): void {
    Atomics.add(memory, slots.progress, 1)
  }

  function enter(phase: Phase, allowanceMs = 0): void {
    // The reader takes progress last: whoever sees the new allowance sees that the phase is new.
    progress()
    Atomics.store(memory, slots.phase, phases.indexOf(phase))
    Atomics.store(memory, slots.allowanceMs, Math.min(Math.ceil(allowanceMs), maxInt32))
  }

  enter('starting')
  return { enter, progress }
}
