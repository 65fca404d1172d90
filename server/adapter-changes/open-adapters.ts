// The adapters of an engine: the store over their folder, changes of the folder, and what is read before the
// first request.

import { surveyBases } from '../adapters/folder-survey.ts'
import { type AdapterReader, createAdapterReader } from '../adapters/reader.ts'
import {
  type AdapterStore,
  type AdapterStoreOptions,
  createAdapterStore,
} from '../adapters/store.ts'
import type { AdapterVersion } from '../adapters/versions.ts'
import type { LinearModule } from '../contracts/checkpoint.ts'
import type { EngineOptions } from '../contracts/engine.ts'
import { ServerError } from '../errors.ts'
import { type AdapterChanges, createAdapterChanges } from './changes.ts'
import { recoverFolders } from './folder-swap.ts'
import { readPins } from './pins.ts'

/** Longer than a copy pauses between two files. */
const settleMs = 1000

export interface AdaptersOptions
  extends Required<Pick<AdapterStoreOptions, 'modelConfig' | 'maxBytes' | 'guard'>> {
  readonly options: EngineOptions
  readonly events: {
    readonly heart: { progress(): void }
    readonly onNotice: (message: string) => void
  }
  readonly sites: readonly LinearModule[]
  readonly baseDigest: string
  /** Those of the weights. */
  readonly merged: readonly AdapterVersion[]
  /** After each change, and after one that failed. */
  readonly onChange: () => void
}

interface OpenAdapters {
  readonly store: AdapterStore
  readonly changes: AdapterChanges
  readonly reader: AdapterReader
}

export async function openAdapters({
  options,
  events,
  sites,
  baseDigest,
  merged,
  onChange,
  ...more
}: AdaptersOptions): Promise<OpenAdapters> {
  const { adapters: root, operatorsAdapters } = options
  await recoverFolders(root).catch((error) =>
    events.onNotice(`--adapters: what an earlier change left cannot be cleared (${error.code}).`),
  )
  const reader = createAdapterReader()
  const store = createAdapterStore({
    ...more,
    root,
    sites: new Set(sites),
    baseDigest: options.acceptsOtherBases ? null : baseDigest,
    operators: operatorsAdapters,
    onNotice: events.onNotice,
    maxRankPerRow: options.maxAdapterRank,
    reserved: [options.servedModelName],
    read: reader.read,
    merged,
    settleMs,
  })
  const operators = operatorsAdapters.map(({ id }) => id)
  const changes = createAdapterChanges({
    root,
    store,
    operators,
    merged: merged.map(({ about }) => about.id),
    onChange,
  })
  await tellOtherBases(store, events)
  for (const id of [...operators, ...readPins(root)]) {
    await tryAdapter(store, id)
    events.heart.progress()
  }
  return { store, changes, reader }
}

async function tellOtherBases(
  store: AdapterStore,
  { heart, onNotice }: AdaptersOptions['events'],
): Promise<void> {
  const notice = await surveyBases((query) => store.list(query, heart.progress), {
    now: () => performance.now(),
    onPage: heart.progress,
  })
  if (notice !== null) onNotice(notice)
}

/** Reads an adapter before the first request; what is wrong with it is in the list then. */
async function tryAdapter(store: AdapterStore, id: string): Promise<void> {
  // Those before it may have taken the memory: it is read on use then.
  const atOnce = AbortSignal.abort()
  try {
    const held = await store.acquire({ adapters: [{ id, scale: null }], required: [] }, atOnce)
    held.release()
  } catch (error) {
    if (!(error instanceof ServerError)) throw error
  }
}
