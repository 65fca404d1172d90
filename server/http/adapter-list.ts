// The adapters the engine can see, remembered for a second; a name that is missing asks again at once,
// so a folder dropped beside a running server is found by the first request that names it.

import type { AdapterSummary } from '../contracts/adapter.ts'
import type { EngineClient } from '../contracts/engine.ts'

export interface AdapterList {
  /** `names` are those a request may mean; a name not in the list is worth one fresh look. */
  read(names?: readonly string[]): Promise<readonly AdapterSummary[]>
}

export const createAdapterList = (options: {
  readonly engine: Pick<EngineClient, 'listAdapters'>
  readonly monotonicMs: () => number
  readonly maxAgeMs?: number
}): AdapterList => {
  const { engine, monotonicMs, maxAgeMs = 1000 } = options
  let current: Promise<readonly AdapterSummary[]> | undefined
  let readAtMs = Number.NEGATIVE_INFINITY
  let pending = false

  const refresh = () => {
    // Callers share one look at the disk; a failure is not remembered.
    if (pending && current !== undefined) return current
    pending = true
    readAtMs = monotonicMs()
    const reading = engine.listAdapters()
    const settled = reading.finally(() => {
      pending = false
    })
    settled.catch(() => {
      if (current === settled) current = undefined
    })
    current = settled
    return settled
  }

  return {
    async read(names = []) {
      const isFresh = current !== undefined && monotonicMs() - readAtMs < maxAgeMs
      const list = await (isFresh && current !== undefined ? current : refresh())
      const isComplete = names.every((name) => list.some((adapter) => adapter.id === name))
      return isComplete || !isFresh ? list : refresh()
    },
  }
}
