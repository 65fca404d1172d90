// The pulse of an engine process: what its heart (heart/heart.ts) writes to a pipe of its own, also while
// native code blocks the event loop. Four of its numbers the event loop leaves in shared memory; the fifth is
// the heart's own.

/** What an engine does. Before it serves the phases of a start, then what a step runs. */
export const phases = [
  'serving',
  'starting',
  'opening the checkpoint',
  'looking for dropped tensors',
  'opening the device',
  'reading the adapters',
  'preparing the conversion',
  'reading the checkpoint',
  'converting weights',
  'folding adapters',
  'checking converted weights',
  'writing to the disk',
  'testing the device',
  'loading the weights',
  'computing the first token',
  'opening the adapters',
  'waiting for an upstream',
  'prefill',
  'decode',
] as const

export type Phase = (typeof phases)[number]

export interface Pulse {
  /** Grows while the event loop turns. */
  readonly turns: number
  /** Grows with each phase, step and piece of work. */
  readonly progress: number
  readonly phase: Phase
  /** How long the phase may do without progress, where that is longer than for others. */
  readonly allowanceMs: number
  /** Grows by the time in which the process stood in line for a processor; begins anew after 2³¹ ms. */
  readonly starvedMs: number
}

export const pulseMs = 500
/** Its file descriptor in the engine process. */
export const pulsePipe = 4

/** Places of the numbers in the shared memory. */
export const slots = { turns: 0, progress: 1, phase: 2, allowanceMs: 3, starvedMs: 4 } as const
export const numSlots = 5
const pulseBytes = numSlots * Int32Array.BYTES_PER_ELEMENT

/** Takes the pipe's chunks, wherever they are cut. */
export function createPulseReader(onPulse: (pulse: Pulse) => void): (chunk: Uint8Array) => void {
  let rest: Uint8Array = new Uint8Array()
  return function read(chunk) {
    const bytes = Buffer.concat([rest, chunk])
    const numWhole = Math.floor(bytes.length / pulseBytes)
    for (let i = 0; i < numWhole; i++) onPulse(parsePulse(bytes.subarray(i * pulseBytes)))
    rest = bytes.subarray(numWhole * pulseBytes)
  }
}

/** The pipe's two ends are on one machine and share its order of bytes. */
function parsePulse(bytes: Uint8Array): Pulse {
  const numbers = new Int32Array(Uint8Array.from(bytes.subarray(0, pulseBytes)).buffer)
  return {
    turns: numbers[slots.turns]!,
    progress: numbers[slots.progress]!,
    phase: phases[numbers[slots.phase]!] ?? 'starting',
    allowanceMs: numbers[slots.allowanceMs]!,
    starvedMs: numbers[slots.starvedMs]!,
  }
}
