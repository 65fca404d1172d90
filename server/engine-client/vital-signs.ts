// Whether an engine answers, and whether it hangs. Pure: pulses and elapsed time come in. Three things
// are measured: silence (no pulse at all: the process is stopped), the event loop (pulses come but it does
// not turn: nobody is answered), and the phase or step under way (everything turns but nothing comes of it).
//
// Silence and, once it serves, a loop that stands still count from `silenceMs` on. A phase without progress
// counts from the longest of three times on: `hangMs`, what the engine itself allows for it (a time that
// grows with the bytes or tokens), and ten times the longest that this phase has ever taken.
//
// Of the loop's and the phase's time only that counts in which the process could run: a busy machine that
// starves it delays the verdict, and is no hang.

import { type Phase, type Pulse, pulseMs } from './pulse.ts'

export interface VitalLimits {
  /** From then on the engine is not ready. */
  readonly unresponsiveMs: number
  /** From then on it is stuck. */
  readonly silenceMs: number
  /** Least time without progress that counts as a hang. */
  readonly hangMs: number
}

/**
 * Time between two calls, at most one interval. Where this process itself was called late, the machine is
 * overloaded or stood still: pulses come late too, or lie in the pipe. So only time counts in which this
 * process had its turn: an engine that hangs is found on any machine, a busy machine is no hang.
 */
export function createWatchClock(intervalMs: number, now: () => number): () => number {
  let last = now()
  return function elapsedMs() {
    const before = last
    last = now()
    return Math.min(last - before, intervalMs)
  }
}

/** A phase that takes so many times its longest so far is a hang. */
const patience = 10

export function createVitalSigns({ unresponsiveMs, silenceMs, hangMs }: VitalLimits) {
  /** Over all processes of this engine: a new one knows what the last one took. */
  const longestMs = new Map<Phase, number>()
  const begin: Pulse = { turns: 0, progress: 0, phase: 'starting', allowanceMs: 0, starvedMs: 0 }
  let last = begin
  let sinceMs = { pulse: 0, turn: 0, progress: 0 }

  function isOlder(limitMs: number, isServing: boolean): boolean {
    return sinceMs.pulse >= limitMs || (isServing && sinceMs.turn >= limitMs)
  }

  function boundMs({ phase, allowanceMs }: Pulse): number {
    return Math.max(hangMs, allowanceMs, patience * (longestMs.get(phase) ?? 0))
  }

  return {
    /** A new process. */
    restart(): void {
      last = begin
      sinceMs = { pulse: 0, turn: 0, progress: 0 }
    },

    beat(pulse: Pulse): void {
      const starved = Math.min((pulse.starvedMs - last.starvedMs) | 0, sinceMs.pulse)
      sinceMs.pulse = 0
      sinceMs.turn = Math.max(0, sinceMs.turn - starved)
      sinceMs.progress = Math.max(0, sinceMs.progress - starved)
      if (pulse.turns !== last.turns) sinceMs.turn = 0
      if (pulse.progress !== last.progress) {
        longestMs.set(last.phase, Math.max(sinceMs.progress, longestMs.get(last.phase) ?? 0))
        sinceMs.progress = 0
      }
      last = pulse
    },

    advance(ms: number): void {
      sinceMs.pulse += ms
      // While nothing is heard nothing is known of the rest, and a stopped process teaches nothing.
      if (sinceMs.pulse > 2 * pulseMs) return
      sinceMs.turn += ms
      sinceMs.progress += ms
    },

    /** `isServing`: from then on the event loop must turn. */
    isResponsive(isServing: boolean): boolean {
      return !isOlder(unresponsiveMs, isServing)
    },

    /** Why it must be killed; null while it need not. */
    findHang(isServing: boolean): string | null {
      const { phase } = last
      if (sinceMs.pulse >= silenceMs) {
        return `no sign of life for ${seconds(sinceMs.pulse)} s, last while ${doing(phase)}`
      }
      if (isOlder(silenceMs, isServing)) {
        return `its event loop has not turned for ${seconds(sinceMs.turn)} s while ${doing(phase)}`
      }
      if (phase === 'serving' || sinceMs.progress < boundMs(last)) return null
      return `no progress for ${seconds(sinceMs.progress)} s while ${doing(phase)}`
    },
  }
}

function doing(phase: Phase): string {
  return phase === 'prefill' || phase === 'decode' ? `computing a ${phase} step` : phase
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1)
}
