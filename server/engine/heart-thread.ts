// The thread of the heart: reads the shared numbers and writes them to the pipe, twice a second.

import { writeSync } from 'node:fs'
import { workerData } from 'node:worker_threads'
import { numSlots, pulseMs, pulsePipe, slots } from '../engine-client/pulse.ts'

const memory: Int32Array = workerData
const pulse = new Int32Array(numSlots)

function beat(): void {
  const { turns, phase, allowanceMs, progress } = slots
  // In this order (heart.ts).
  for (const slot of [turns, allowanceMs, phase, progress]) pulse[slot] = Atomics.load(memory, slot)
  try {
    writeSync(pulsePipe, new Uint8Array(pulse.buffer))
  } catch {
    // The pipe is full because the front stands still, or closed because it has gone.
  }
}

beat()
setInterval(beat, pulseMs)
