// What counts as silence, as a loop that stands still and as a hang. Time comes in; nothing waits.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createPulseReader, numSlots, type Pulse, phases } from '../server/engine-client/pulse.ts'
import { createVitalSigns, createWatchClock } from '../server/engine-client/vital-signs.ts'

const limits = { unresponsiveMs: 3_000, silenceMs: 10_000, hangMs: 10_000 }
const tickMs = 100

/** Vital signs with an engine whose pulse is as given, every 500 ms. */
function createPatient() {
  const vitals = createVitalSigns(limits)
  let pulse: Pulse = { turns: 0, progress: 0, phase: 'starting', allowanceMs: 0, starvedMs: 0 }
  return {
    vitals,
    /** Time goes by; `change` is applied before each pulse. */
    live(ms: number, change: (pulse: Pulse) => Partial<Pulse>): void {
      for (let at = tickMs; at <= ms; at += tickMs) {
        vitals.advance(tickMs)
        if (at % 500 !== 0) continue
        pulse = { ...pulse, ...change(pulse) }
        vitals.beat(pulse)
      }
    },
    /** No pulse comes. */
    stop(ms: number): void {
      for (let at = tickMs; at <= ms; at += tickMs) vitals.advance(tickMs)
    },
  }
}

const turning = ({ turns }: Pulse) => ({ turns: turns + 1 })
const working = (pulse: Pulse) => {
  return { ...turning(pulse), progress: pulse.progress + 1, phase: 'decode' } as const
}
const still = () => ({})

describe('vital signs', () => {
  it('an engine is unresponsive after 3 s without a pulse and stuck after 10, in any phase', () => {
    for (const isServing of [false, true]) {
      const { vitals, live, stop } = createPatient()
      live(5_000, turning)
      stop(2_900)
      assert.equal(vitals.isResponsive(isServing), true)
      stop(100)
      assert.equal(vitals.isResponsive(isServing), false)
      stop(6_900)
      assert.equal(vitals.findHang(isServing), null)
      stop(100)
      assert.match(
        vitals.findHang(isServing) ?? '',
        /^no sign of life for 10\.0 s, last while start/,
      )
    }
  })

  it('an engine that a busy machine starves is given the time that it lacked', () => {
    for (const share of [0.5, 0.9]) {
      const { vitals, live } = createPatient()
      const starved = ({ starvedMs }: Pulse) => ({ starvedMs: starvedMs + 500 * share })
      live(1_000, working)
      live(9_500 / (1 - share), starved)
      assert.equal(vitals.findHang(true), null)
      live(1_000 / (1 - share), starved)
      assert.match(vitals.findHang(true) ?? '', /^its event loop has not turned for/)
    }
  })

  it('what it lacked before a pulse is taken off the time since the pulse before, and no more', () => {
    const { vitals, live } = createPatient()
    live(1_000, working)
    live(9_000, still)
    live(500, () => ({ starvedMs: 60_000 }))
    live(500, still)
    assert.equal(vitals.findHang(true), null)
    live(500, still)
    assert.match(vitals.findHang(true) ?? '', /^its event loop has not turned for 10\.0 s/)
  })

  it('a pulse makes it responsive again', () => {
    const { vitals, live, stop } = createPatient()
    live(1_000, turning)
    stop(9_000)
    live(500, turning)
    assert.equal(vitals.isResponsive(true), true)
    assert.equal(vitals.findHang(true), null)
  })

  it('a loop that stands still counts once it serves, not while it loads', () => {
    const { vitals, live } = createPatient()
    live(500, (pulse) => ({ ...turning(pulse), phase: 'serving' }))
    live(3_500, still)
    assert.equal(vitals.isResponsive(false), true)
    assert.equal(vitals.isResponsive(true), false)
    live(7_000, still)
    assert.equal(vitals.findHang(false), null)
    assert.match(
      vitals.findHang(true) ?? '',
      /event loop has not turned for 1\d\.\d s while serving/,
    )
  })

  it('an idle engine never hangs', () => {
    const { vitals, live } = createPatient()
    live(500, (pulse) => ({ ...turning(pulse), phase: 'serving' }))
    live(3_600_000, turning)
    assert.equal(vitals.findHang(true), null)
  })

  for (const phase of phases.filter((one) => one !== 'serving')) {
    it(`without progress for 10 s it hangs: ${phase}`, () => {
      const { vitals, live } = createPatient()
      live(500, ({ progress }) => ({ phase, progress: progress + 1 }))
      live(9_500, turning)
      assert.equal(vitals.findHang(false), null)
      live(500, turning)
      assert.ok(vitals.findHang(false)?.includes(phase))
    })
  }

  it('progress is enough, however long the phase takes', () => {
    const { vitals, live } = createPatient()
    const working = (pulse: Pulse) => ({
      phase: 'converting weights' as const,
      progress: pulse.progress + 1,
    })
    live(3_600_000, working)
    assert.equal(vitals.findHang(false), null)
  })

  it('what the engine allows for a phase holds, for as long as it says', () => {
    const { vitals, live } = createPatient()
    const load = { phase: 'loading the weights', allowanceMs: 40_000 } as const
    live(500, ({ progress }) => ({ ...load, progress: progress + 1 }))
    live(39_500, still)
    assert.equal(vitals.findHang(false), null)
    live(500, still)
    assert.match(vitals.findHang(false) ?? '', /no progress for 40\.0 s while loading the weights/)
  })

  it('ten times the longest so far is allowed to the same phase, also of the next process', () => {
    const { vitals, live } = createPatient()
    const decode = ({ progress }: Pulse) => ({ phase: 'decode' as const, progress: progress + 1 })
    live(500, decode)
    live(2_500, turning)
    live(500, decode)
    vitals.restart()
    live(500, decode)
    live(29_000, turning)
    assert.equal(vitals.findHang(true), null)
    live(1_500, turning)
    assert.match(vitals.findHang(true) ?? '', /while computing a decode step/)
    vitals.restart()
    live(500, ({ progress }) => ({ phase: 'prefill', progress: progress + 1 }))
    live(10_000, turning)
    assert.match(vitals.findHang(true) ?? '', /while computing a prefill step/)
  })

  it('a stopped process teaches no patience', () => {
    const { vitals, live, stop } = createPatient()
    const decode = ({ progress }: Pulse) => ({ phase: 'decode' as const, progress: progress + 1 })
    live(500, decode)
    stop(9_000)
    live(500, decode)
    live(15_500, turning)
    assert.match(vitals.findHang(true) ?? '', /computing a decode step/)
  })
})

describe('the clock of the watch', () => {
  it('counts one interval at a time: the front itself may be late or stand still', () => {
    let now = 1000
    const elapsedMs = createWatchClock(100, () => now)
    const after = (ms: number) => {
      now += ms
      return elapsedMs()
    }
    assert.deepEqual([after(100), after(150), after(60_000), after(90)], [100, 100, 100, 90])
  })

  /** Whether a silent engine still counts as ready, after each second of a front called every `lateMs`. */
  function watchSilence(lateMs: number, seconds: number): boolean {
    let now = 0
    const { vitals } = createPatient()
    const elapsedMs = createWatchClock(100, () => now)
    while (now < seconds * 1000) {
      now += lateMs
      vitals.advance(elapsedMs())
    }
    return vitals.isResponsive(true)
  }

  it('finds a silent engine after 3 s on a quiet machine, later on one that calls it late', () => {
    assert.deepEqual([watchSilence(100, 2.9), watchSilence(100, 3)], [true, false])
    // Every call comes 400 ms late: a pulse may be as late, and silence is not yet a hang.
    assert.deepEqual([watchSilence(500, 14.5), watchSilence(500, 15)], [true, false])
  })
})

describe('the pipe of pulses', () => {
  it('may be cut anywhere', () => {
    const pulses = [0, 1, 2, 3, 4].map((i) => [i, 10 * i, i, 7, 3 * i])
    const bytes = new Uint8Array(Int32Array.from(pulses.flat()).buffer)
    for (let size = 1; size <= 4 * numSlots + 1; size++) {
      const seen: Pulse[] = []
      const read = createPulseReader((pulse) => seen.push(pulse))
      for (let from = 0; from < bytes.length; from += size) read(bytes.subarray(from, from + size))
      assert.deepEqual(
        seen,
        pulses.map(([turns, progress, phase, allowanceMs, starvedMs]) => {
          return { turns, progress, phase: phases[phase!], allowanceMs, starvedMs }
        }),
      )
    }
  })
})
