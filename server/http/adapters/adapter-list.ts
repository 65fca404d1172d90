// The adapters the engine can see. Those that requests name are remembered for a second, each by its
// name; a name that is missing is asked for at once, so a folder dropped beside a running server is
// found by the first request that names it. A request for what is known does not wait for the next
// look. How strong an adapter runs is for the engine, which loads it.

import type { AdapterSummary } from '../../contracts/adapter.ts'
import type { EngineClient } from '../../contracts/engine.ts'
import type { ListRange } from '../request/query.ts'

export interface AdapterList {
  /** Those of the names that there are. */
  read(names: readonly string[]): Promise<readonly AdapterSummary[]>
  /** The same, but what is a few seconds old will do while a fresh look is taken. */
  readKnown(names: readonly string[]): Promise<readonly AdapterSummary[]>
  /** As it is now: nothing remembered, no look shared. */
  readNow(id: string): Promise<AdapterSummary | undefined>
  /** It has changed: the next look is a fresh one. */
  forget(id: string): void
  /** The first of those that come after a name, without manifests where brief. Never remembered. */
  page(range: ListRange & { readonly isBrief?: boolean }): Promise<AdapterPage>
}

interface AdapterPage {
  readonly adapters: readonly AdapterSummary[]
  readonly hasMore: boolean
}

interface Known {
  readonly summary: AdapterSummary
  readonly askedAtMs: number
}

/** Names that are remembered at most. */
const maxKnown = 10_000

export function createAdapterList(options: {
  readonly engine: Pick<EngineClient, 'listAdapters'>
  readonly monotonicMs: () => number
  readonly maxAgeMs?: number
  /** Beyond this nobody is served from memory. */
  readonly maxKnownAgeMs?: number
}): AdapterList {
  const { engine, monotonicMs, maxAgeMs = 1000, maxKnownAgeMs = 5000 } = options
  const known = new Map<string, Known>()
  /** Looks under way; who asks for the same name shares one. */
  const looks = new Map<string, Promise<AdapterSummary | undefined>>()

  function keep(id: string, summary: AdapterSummary | undefined, askedAtMs: number): void {
    known.delete(id)
    if (summary === undefined) return
    known.set(id, { summary, askedAtMs })
    if (known.size > maxKnown) known.delete(known.keys().next().value!)
  }

  /** One question for all of the names that nobody asks for now. */
  function look(names: readonly string[]): Promise<readonly (AdapterSummary | undefined)[]> {
    const ids = names.filter((id) => !looks.has(id))
    const askedAtMs = monotonicMs()
    const answer = ids.length === 0 ? Promise.resolve([]) : engine.listAdapters({ ids })
    for (const id of ids) {
      const one: Promise<AdapterSummary | undefined> = answer
        .then((list) => {
          const summary = list.find((candidate) => candidate.id === id)
          // A look from before a change is not remembered.
          if (looks.get(id) === one) keep(id, summary, askedAtMs)
          return summary
        })
        .finally(() => looks.get(id) === one && looks.delete(id))
      // Its failure is that of whoever waits for it, and is not remembered.
      one.catch(() => {})
      looks.set(id, one)
    }
    return Promise.all(names.map((id) => looks.get(id)!))
  }

  function find(id: string, maxMs: number): AdapterSummary | undefined {
    const found = known.get(id)
    return found && monotonicMs() - found.askedAtMs < maxMs ? found.summary : undefined
  }

  async function readWithin(names: readonly string[], maxMs: number) {
    const ids = [...new Set(names)]
    const missing = ids.filter((id) => find(id, maxMs) === undefined)
    const aged = ids.filter((id) => find(id, maxAgeMs) === undefined && !missing.includes(id))
    const present = ids.map((id) => find(id, maxMs))
    if (aged.length > 0) look(aged).catch(() => {})
    const fresh = await look(missing)
    return [...present, ...fresh].filter((summary) => summary !== undefined)
  }

  return {
    read: (names) => readWithin(names, maxAgeMs),
    forget(id) {
      known.delete(id)
      looks.delete(id)
    },
    readKnown: (names) => readWithin(names, maxKnownAgeMs),
    async readNow(id) {
      const [summary] = await engine.listAdapters({ ids: [id] })
      return summary
    },
    async page({ after, limit, isBrief = false }) {
      // One more tells whether there are more.
      const query = { ...(after === undefined ? {} : { after }), limit: limit + 1, isBrief }
      const adapters = await engine.listAdapters(query)
      return { adapters: adapters.slice(0, limit), hasMore: adapters.length > limit }
    },
  }
}
