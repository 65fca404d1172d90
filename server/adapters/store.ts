// Adapters on disk and in the bank: loaded on first use, kept while there is room, the least
// recently used leaving first. What a running request holds stays until it lets go, even when the
// folder is replaced meanwhile.

import { LRUCache } from 'lru-cache'
import {
  type AdapterRef,
  type AdapterSummary,
  type AppliedAdapter,
  maxAdapterScale,
} from '../contracts/adapter.ts'
import type { ModelConfig } from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'
import type { Bank } from './bank.ts'
import { fingerprint, listFolders, readManifest } from './files.ts'
import { type LoadedAdapter, readPeftAdapter } from './peft.ts'

export interface AdapterStoreOptions {
  readonly root: string
  readonly modelConfig: ModelConfig
  readonly bank: Bank
  readonly maxRankPerRow: number
}

/** Adapters held for one request. */
export interface HeldAdapters {
  readonly applied: readonly AppliedAdapter[]
  /** One slot and one scale for each rank-1 component. */
  readonly slots: readonly number[]
  readonly scales: readonly number[]
  /** Idempotent. */
  release(): void
}

interface Resident {
  readonly id: string
  readonly fingerprint: string
  readonly adapter: Omit<LoadedAdapter, 'components'>
  readonly slots: readonly number[]
  numHolders: number
  /** Replaced or evicted: leaves the bank with its last holder. */
  isRetired: boolean
}

export type AdapterStore = ReturnType<typeof createAdapterStore>

export function createAdapterStore({
  root,
  modelConfig,
  bank,
  maxRankPerRow,
}: AdapterStoreOptions) {
  const residents = new LRUCache<string, Resident>({ max: Math.max(1, bank.numSlots) })
  const loading = new Map<string, Promise<Resident>>()
  const failures = new Map<string, { readonly fingerprint: string; readonly error: ServerError }>()

  function retire(resident: Resident): void {
    if (residents.peek(resident.id) === resident) residents.delete(resident.id)
    resident.isRetired = true
    if (resident.numHolders === 0) bank.free(resident.slots)
  }

  function makeRoom(numSlots: number): void {
    // From the least recently used on; what is held is passed over.
    for (const id of [...residents.rkeys()]) {
      if (bank.numFree >= numSlots) return
      const resident = residents.peek(id)
      if (resident !== undefined && resident.numHolders === 0) retire(resident)
    }
  }

  async function load(id: string, print: string): Promise<Resident> {
    const failure = failures.get(id)
    if (failure?.fingerprint === print) throw failure.error
    let loaded: LoadedAdapter
    try {
      loaded = await readPeftAdapter(root, id, modelConfig)
    } catch (error) {
      if (error instanceof ServerError) failures.set(id, { fingerprint: print, error })
      throw error
    }
    failures.delete(id)
    if (loaded.rank > maxRankPerRow) throw rankExceeded(loaded.rank)
    makeRoom(loaded.rank)
    const slots = bank.allocate(loaded.components)
    if (slots === null) {
      throw new ServerError(
        'adapter_limit',
        `All ${bank.numSlots} adapter slots are in use by running requests; try again later.`,
      )
    }
    const { components: _, ...adapter } = loaded
    const old = residents.peek(id)
    if (old !== undefined) retire(old)
    const resident = { id, fingerprint: print, adapter, slots, numHolders: 0, isRetired: false }
    residents.set(id, resident)
    return resident
  }

  /** Concurrent requests for one version share one load; a failed one is not kept. */
  async function requireResident(id: string): Promise<Resident> {
    const print = await fingerprint(root, id)
    const known = residents.get(id)
    if (known?.fingerprint === print) return known
    const key = `${id}/${print}`
    const shared = loading.get(key)
    if (shared !== undefined) return shared
    const promise = load(id, print).finally(() => loading.delete(key))
    loading.set(key, promise)
    return promise
  }

  /** Resident and held: nothing runs between the check and the hold. */
  async function hold(id: string): Promise<Resident> {
    for (;;) {
      const resident = await requireResident(id)
      if (resident.isRetired) continue
      resident.numHolders++
      return resident
    }
  }

  function letGo(resident: Resident): void {
    resident.numHolders--
    if (resident.isRetired && resident.numHolders === 0) bank.free(resident.slots)
  }

  function rankExceeded(rank: number): ServerError {
    return new ServerError(
      'adapter_rank_exceeded',
      `The adapters of one request may have total rank ${maxRankPerRow}; these have ${rank}.`,
      { param: 'adapter' },
    )
  }

  return {
    /** Holds adapters for a request. Throws ServerError; then nothing is held. */
    async acquire(refs: readonly AdapterRef[]): Promise<HeldAdapters> {
      const ids = refs.map(({ id }) => id)
      if (new Set(ids).size < ids.length) {
        throw new ServerError('adapter_conflict', 'The same adapter is named twice.', {
          param: 'adapter',
        })
      }
      const held: Resident[] = []
      const release = () => {
        for (const resident of held.splice(0)) letGo(resident)
      }
      try {
        for (const id of ids) held.push(await hold(id))
        const rank = held.reduce((sum, { adapter }) => sum + adapter.rank, 0)
        if (rank > maxRankPerRow) throw rankExceeded(rank)
      } catch (error) {
        release()
        throw error
      }
      const scales = refs.map(({ id, scale }) => scale ?? defaultScale(readManifest(root, id)))
      return {
        applied: held.map(({ id, adapter }, i) => ({
          id,
          digest: adapter.digest,
          scale: scales[i] as number,
        })),
        slots: held.flatMap(({ slots }) => slots),
        scales: held.flatMap(({ slots }, i) => slots.map(() => scales[i] as number)),
        release,
      }
    },

    /** Every adapter folder. Reads names and small JSON, never tensors. */
    list(): AdapterSummary[] {
      return listFolders(root).map((id) => {
        const resident = residents.peek(id)
        const failure = failures.get(id)
        const manifest = readManifest(root, id)
        return {
          id,
          state: resident ? 'resident' : failure ? 'invalid' : 'available',
          digest: resident?.adapter.digest ?? null,
          rank: resident?.adapter.rank ?? null,
          targetModules: resident?.adapter.targetModules ?? null,
          numLayers: resident?.adapter.numLayers ?? null,
          defaultScale: defaultScale(manifest),
          description: typeof manifest?.description === 'string' ? manifest.description : null,
          manifest,
          error: failure ? { code: failure.error.code, message: failure.error.message } : null,
        }
      })
    },

    residentIds(): string[] {
      return [...residents.keys()]
    },
  }
}

function defaultScale(manifest: Record<string, unknown> | null): number {
  const value = manifest?.recommended_strength
  const isStrength = typeof value === 'number' && value >= 0 && value <= maxAdapterScale
  return isStrength ? value : 1
}
