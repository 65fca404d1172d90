// Throttles the engine's statistics: a change of who runs or waits goes to the front at once, anything
// else only now and then. A message per step would slow the step.

import type { EngineStats } from '../contracts/engine.ts'

/** Between two reports that differ in the use of the cache only. */
const quietMs = 250

export function createStatsThrottle(send: (stats: EngineStats) => void, now: () => number) {
  let last: EngineStats | undefined
  let sentAt = Number.NEGATIVE_INFINITY
  return function report(stats: EngineStats): void {
    if (last !== undefined && areAlike(last, stats) && now() - sentAt < quietMs) return
    last = stats
    sentAt = now()
    send(stats)
  }
}

function areAlike(x: EngineStats, y: EngineStats): boolean {
  return (
    x.running === y.running &&
    x.waiting === y.waiting &&
    x.residentAdapters === y.residentAdapters &&
    x.residentAdapterBytes === y.residentAdapterBytes &&
    x.pinnedAdapters === y.pinnedAdapters &&
    x.runningAdapters.join() === y.runningAdapters.join() &&
    x.waitingAdapters.join() === y.waitingAdapters.join()
  )
}
