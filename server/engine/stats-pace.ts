// How often the front is told what the engine is doing: at once when who runs or waits has changed,
// else only now and then. A message per step would cost the step some time.

import type { EngineStats } from '../contracts/engine.ts'

/** Between two that differ in the use of the cache only. */
const quietMs = 250

export function createStatsPace(tell: (stats: EngineStats) => void, now: () => number) {
  let last: EngineStats | undefined
  let toldAt = Number.NEGATIVE_INFINITY
  return function report(stats: EngineStats): void {
    if (last !== undefined && areAlike(last, stats) && now() - toldAt < quietMs) return
    last = stats
    toldAt = now()
    tell(stats)
  }
}

function areAlike(x: EngineStats, y: EngineStats): boolean {
  return (
    x.running === y.running &&
    x.waiting === y.waiting &&
    x.residentAdapters === y.residentAdapters &&
    x.runningAdapters.join() === y.runningAdapters.join() &&
    x.waitingAdapters.join() === y.waitingAdapters.join()
  )
}
