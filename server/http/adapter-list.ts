// The adapters the engine can see, remembered for a second; a name that is missing asks again at once,
// so a folder dropped beside a running server is found by the first request that names it. Requests
// that only need what is known do not wait for the next look, which takes a while over thousands. It
// says which names there are; how strong an adapter runs is for the engine, which loads it.

import type { AdapterSummary } from '../contracts/adapter.ts'
import type { EngineClient } from '../contracts/engine.ts'

export interface AdapterList {
  /** `names` are those a request may mean; a name not in the list is worth one fresh look. */
  read(names?: readonly string[]): Promise<readonly AdapterSummary[]>
  /** The same, but what is a few seconds old will do while a fresh look is taken. */
  readKnown(names: readonly string[]): Promise<readonly AdapterSummary[]>
}

export function createAdapterList(options: {
  readonly engine: Pick<EngineClient, 'listAdapters'>
  readonly monotonicMs: () => number
  readonly maxAgeMs?: number
  /** Beyond this nobody is served from memory. */
  readonly maxKnownAgeMs?: number
}): AdapterList {
  const { engine, monotonicMs, maxAgeMs = 1000, maxKnownAgeMs = 5000 } = options
  let current: Promise<readonly AdapterSummary[]> | undefined
  let readAtMs = Number.NEGATIVE_INFINITY
  let pending = false
  /** The last list that came, and when it was asked for. */
  let known: { readonly list: readonly AdapterSummary[]; readonly askedAtMs: number } | undefined

  function refresh(): Promise<readonly AdapterSummary[]> {
    // Callers share one look at the disk; a failure is not remembered.
    if (pending && current !== undefined) return current
    pending = true
    const askedAtMs = monotonicMs()
    readAtMs = askedAtMs
    const reading = engine.listAdapters().then((list) => {
      known = { list, askedAtMs }
      return list
    })
    const settled = reading.finally(() => {
      pending = false
    })
    settled.catch(() => {
      if (current === settled) current = undefined
    })
    current = settled
    return settled
  }

  function isFresh(): boolean {
    return current !== undefined && monotonicMs() - readAtMs < maxAgeMs
  }

  function holds(list: readonly AdapterSummary[], names: readonly string[]): boolean {
    return names.every((name) => list.some((adapter) => adapter.id === name))
  }

  async function read(names: readonly string[] = []): Promise<readonly AdapterSummary[]> {
    const wasFresh = isFresh()
    const list = await (wasFresh && current !== undefined ? current : refresh())
    return holds(list, names) || !wasFresh ? list : refresh()
  }

  return {
    read,
    async readKnown(names) {
      const isRecent = known !== undefined && monotonicMs() - known.askedAtMs < maxKnownAgeMs
      if (known === undefined || !isRecent || !holds(known.list, names)) return read(names)
      // Its failure is that of whoever waits for it.
      if (!isFresh()) refresh().catch(() => {})
      return known.list
    },
  }
}
