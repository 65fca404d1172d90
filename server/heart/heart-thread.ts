// The thread of the heart: reads the shared numbers and writes them to the pipe, twice a second.

import { writeSync } from 'node:fs'
import { workerData } from 'node:worker_threads'
import { numSlots, phases, pulseMs, pulsePipe, slots } from '../engine-client/pulse.ts'
import { createReadProgress, readStorageBytes } from './disk-reads.ts'
import { createStarvation, readRunDelays } from './run-delays.ts'

const memory: Int32Array = workerData
const pulse = new Int32Array(numSlots)
/** One native call that maps or reads the weights; nothing else reads meanwhile. */
const loading = phases.indexOf('loading the weights')
const readProgress = createReadProgress(readStorageBytes)
const starvedMs = createStarvation(readRunDelays, () => performance.now())
let numReads = 0

function beat(): void {
  const { turns, phase, allowanceMs, progress } = slots
  // In this order (heart.ts).
  for (const slot of [turns, allowanceMs, phase, progress]) pulse[slot] = Atomics.load(memory, slot)
  if (pulse[slots.phase] === loading) numReads = readProgress()
  pulse[slots.progress] = pulse[slots.progress]! + numReads
  pulse[slots.starvedMs] = starvedMs() | 0
  try {
    writeSync(pulsePipe, new Uint8Array(pulse.buffer))
  } catch {
    // The pipe is full because the front stands still, or closed because it has gone.
  }
}

beat()
setInterval(beat, pulseMs)
