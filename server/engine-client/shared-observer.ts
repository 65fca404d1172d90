// Several engines that report to one observer as if they were one. The state is that of the engine that
// takes new requests; the load is the sum over all that still run requests.

import type { EngineStats, ModelInfo } from '../contracts/engine.ts'
import type { Observer } from '../contracts/observer.ts'

/** One engine's part. */
export interface ObserverShare {
  readonly observer: Observer
  /** From now on the observer sees this engine's state. */
  lead(): void
  /** The engine is gone. */
  leave(): void
}

export interface SharedObserver {
  /** The first share leads. */
  share(): ObserverShare
}

export function createSharedObserver(observer: Observer): SharedObserver {
  const loads = new Map<ObserverShare, EngineStats>()
  let leader: ObserverShare | undefined

  function report(): void {
    const all = [...loads.values()]
    const led = (leader && loads.get(leader)) ?? all[0]
    if (led === undefined) return
    const sum = (numberOf: (stats: EngineStats) => number) =>
      all.reduce((total, stats) => total + numberOf(stats), 0)
    observer.engineStats({
      ...led,
      running: sum(({ running }) => running),
      waiting: sum(({ waiting }) => waiting),
      runningAdapters: [...new Set(all.flatMap(({ runningAdapters }) => runningAdapters))],
      waitingAdapters: [...new Set(all.flatMap(({ waitingAdapters }) => waitingAdapters))],
    })
  }

  return {
    share() {
      let model: ModelInfo | undefined
      const share: ObserverShare = {
        observer: {
          ...observer,
          engineState(state) {
            if (leader === share) observer.engineState(state)
          },
          engineReady(ready) {
            model = ready
            if (leader === share) observer.engineReady(ready)
          },
          engineStats(stats) {
            loads.set(share, stats)
            report()
          },
        },
        lead() {
          leader = share
          if (model !== undefined) observer.engineReady(model)
        },
        leave() {
          if (loads.delete(share)) report()
        },
      }
      leader ??= share
      return share
    },
  }
}
