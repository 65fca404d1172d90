// The adapters folder and what of it is in memory. Adapters are read on demand, validated wholly
// before a request sees them, and evicted least recently used first, never while a request uses
// them; a request that finds no free memory waits for it. A folder that changed on disk is a new
// version: requests under way keep the old one.

import {
  type AdapterQuery,
  type AdapterRef,
  type AdapterSelection,
  type AdapterSummary,
  type AppliedAdapter,
  adapterNamePattern,
  type HeldAdapter,
  type ScaledRankOne,
} from '../contracts/adapter.ts'
import type { LinearModule, ModelConfig } from '../contracts/checkpoint.ts'
import { type AdapterFolder, findAdapterFolder, readFingerprint } from './adapter-folder.ts'
import { type CombinationLimits, checkCombination, refuseRepeats } from './combination.ts'
import type { OnSlice } from './folder-index.ts'
import { createListing } from './listing.ts'
import { createMemoryQueue } from './memory-queue.ts'
import { type ReadAdapter, readPeftAdapter } from './peft.ts'
import { createResidents, type Hold } from './residents.ts'
import { requireNamed } from './strength.ts'
import { type KnownOfAdapter, nameAdapter, noAdapter } from './summary.ts'
import {
  type AdapterVersion,
  createVersions,
  type KnownVersion,
  type Versions,
} from './versions.ts'

export interface AdapterStoreOptions {
  readonly root: string
  readonly modelConfig: ModelConfig
  /** The modules that the engine's graph has a site for. */
  readonly sites: ReadonlySet<LinearModule>
  /** Of the base that is served; null, as by default: adapters of any base are taken. */
  readonly baseDigest?: string | null
  /** The operator's own adapters: none of them runs with a gap. None by default. */
  readonly operators?: readonly AdapterRef[]
  /** Told what is wrong with an adapter that is served all the same. */
  readonly onNotice?: (message: string) => void
  /** Most bytes of vectors that are kept. */
  readonly maxBytes: number
  readonly maxRankPerRow: number
  /** Names that no adapter may have: the base model's. */
  readonly reserved?: readonly string[]
  /** In this thread by default. */
  readonly read?: ReadAdapter
  /** The guard that is in use, for the list; null, as by default: there is none. */
  readonly guard?: KnownOfAdapter['resident'] | null
  /** Those of the weights: their names mean these versions, whatever is in the folder. */
  readonly merged?: readonly AdapterVersion[]
  /** A folder in which something changed less long ago is not finished; 0 by default. */
  readonly settleMs?: number
}

/** What a request runs with. */
export interface AcquiredAdapters {
  readonly applied: readonly AppliedAdapter[]
  /** One per rank. */
  readonly components: readonly ScaledRankOne[]
  /** The same, adapter by adapter. */
  readonly each: readonly HeldAdapter[]
  /** Idempotent. Afterwards the adapters may be evicted. */
  release(): void
}

export interface AdapterStore extends Pick<Versions, 'check'>, StoreChanges {
  /**
   * Adapter folders by name; all by default. Reads names and small JSON files, never tensors.
   * `onSlice` is told of each slice of names while the folder is read.
   */
  list(query?: AdapterQuery, onSlice?: OnSlice): Promise<readonly AdapterSummary[]>
  /**
   * Loads what is not there, and decides how strong each adapter is. All or nothing; rejects with
   * ServerError. Where other requests' adapters fill the memory it waits, until the signal
   * ends the wait.
   */
  acquire(selection: AdapterSelection, signal?: AbortSignal): Promise<AcquiredAdapters>
  /** Most recently used first. */
  residentIds(): readonly string[]
  /** Of all vectors that are kept or in use. */
  readonly usedBytes: number
}

/** What changes of the folder ask of the store and tell it. Nothing here waits for a request. */
interface StoreChanges {
  /** What was read of it in its present state; null: nothing. */
  known(folder: AdapterFolder): KnownVersion | null
  isResident(folder: AdapterFolder): boolean
  /**
   * The folder of this name has the content of a checked version: requests find it from now on, those
   * that run keep theirs. Resident where memory allows and this engine has its sites.
   */
  adopt(version: AdapterVersion): void
  /** The folder of this name is gone: no request finds it; the last that runs with it frees it. */
  retire(id: string): void
  /** Not evicted while it is in memory. */
  pin(id: string, isPinned: boolean): void
  isPinned(id: string): boolean
  /** Names that are pinned, whether or not there is such an adapter now. */
  numPinned(): number
  /** Requests that run with an adapter of this name, in any version. */
  numUsers(id: string): number
  whenUnused(id: string): Promise<void>
}

export function createAdapterStore(options: AdapterStoreOptions): AdapterStore {
  const { root, maxBytes, maxRankPerRow, read = readPeftAdapter, sites, settleMs = 0 } = options
  const { baseDigest = null, operators = [], onNotice = () => {}, guard = null } = options
  const merged = new Map((options.merged ?? []).map((version) => [version.about.id, version]))
  const reserved = new Set(['none', ...(options.reserved ?? [])])
  const versions = createVersions({
    ...options,
    read,
    maxRank: maxRankPerRow,
    baseDigest,
    operators,
    onNotice,
    settleMs,
  })
  const residents = createResidents(maxBytes)
  const queue = createMemoryQueue()
  const listing = createListing({
    root,
    reserved,
    baseDigest,
    modelConfig: options.modelConfig,
    known: (id) => ({
      resident: residents.find(id) ?? (guard?.about.id === id ? guard : undefined),
      former: versions.lastOf(id),
      runningRequests: residents.numUsers(id),
      isPinned: residents.isPinned(id),
      failure: versions.failureOf(id),
    }),
  })

  function requireFolder(id: string): AdapterFolder {
    const isName = adapterNamePattern.test(id) && !reserved.has(id)
    const folder = isName ? requireInside(root, id) : null
    if (folder !== null) return folder
    residents.retire(id)
    versions.forget(id)
    throw noAdapter(id)
  }

  /** The adapter as it is on disk now: the resident one, held, if that is still true; else read. */
  async function findOrRead(id: string): Promise<Hold | AdapterVersion> {
    const version = merged.get(id)
    if (version !== undefined) return { version, release: () => {} }
    const folder = requireFolder(id)
    const resident = residents.hold(id, readFingerprint(folder))
    if (resident !== null) return resident
    // While somebody writes the folder, the version from before serves.
    const former = versions.isFinished(folder) ? null : residents.hold(id)
    return former ?? versions.read(folder)
  }

  /** Pinned adapters of others never leave: who does not fit beside them would wait for ever. */
  function limitsFor({ adapters }: AdapterSelection): CombinationLimits {
    const pinned = residents.pinnedBytes(adapters.map(({ id }) => id))
    return { maxRankPerRow, maxBytes: maxBytes - pinned, merged: [...merged.values()] }
  }

  /** Null: adapters in use leave no memory for these now. */
  async function tryAcquire(
    selection: AdapterSelection,
    isFirstInLine: boolean,
  ): Promise<AcquiredAdapters | null> {
    const found: (Hold | AdapterVersion)[] = []
    const holds = new Set<Hold>()
    function letGo(): void {
      for (const hold of holds) hold.release()
      // Who was first tried with these held: nothing changed for it.
      if (!isFirstInLine) queue.memoryMayBeFree()
    }
    try {
      // One after the other: four hostile folders are not held in memory at once.
      for (const { id } of selection.adapters) {
        const item = await findOrRead(id)
        if (isHold(item)) holds.add(item)
        found.push(item)
      }
      checkCombination(selection, found.map(versionOf), limitsFor(selection))
      const used: Hold[] = []
      for (const item of found) {
        const mayTakeMemory = isFirstInLine || queue.isEmpty
        const hold = isHold(item) ? item : residents.keep(item, mayTakeMemory)
        if (hold === null) {
          letGo()
          return null
        }
        holds.add(hold)
        used.push(hold)
      }
      // A newer version may have become resident while the others were read.
      const strengths = checkCombination(selection, used.map(versionOf), limitsFor(selection))
      const each = used.map((hold, i) => held(hold, strengths[i]!, selection.adapters[i]!))
      return acquired(each, used, queue.memoryMayBeFree)
    } catch (error) {
      letGo()
      throw error
    }
  }

  return {
    list: (query = {}, onSlice) => listing.read(query, onSlice),
    async acquire(selection, signal = new AbortController().signal) {
      refuseRepeats(selection)
      requireNamed(selection)
      // Whoever waits for memory comes before those who come later.
      const atOnce = await tryAcquire(selection, false)
      return atOnce ?? queue.wait(() => tryAcquire(selection, true), signal)
    },
    async check(folder, isOurs) {
      const version = await versions.check(folder, isOurs)
      const ref = { id: folder.id, scale: null }
      checkCombination({ adapters: [ref], required: [] }, [version], options)
      return version
    },
    known(folder) {
      const last = versions.lastOf(folder.id)
      return last?.fingerprint === readFingerprint(folder) ? last : null
    },
    isResident: (folder) => residents.find(folder.id)?.fingerprint === readFingerprint(folder),
    adopt(checked) {
      const { id } = checked.about
      const folder = requireFolder(id)
      const version = versions.adopt(checked, folder)
      residents.retire(id)
      const isServed = checked.about.targetModules.every((module) =>
        sites.has(module as LinearModule),
      )
      if (isServed) residents.keep(version, queue.isEmpty)?.release()
      queue.memoryMayBeFree()
    },
    retire(id) {
      residents.retire(id)
      versions.forget(id)
      queue.memoryMayBeFree()
    },
    pin(id, isPinned) {
      residents.pin(id, isPinned)
      queue.memoryMayBeFree()
    },
    isPinned: residents.isPinned,
    numPinned: residents.numPinned,
    numUsers: residents.numUsers,
    whenUnused: residents.whenUnused,
    residentIds: residents.ids,
    get usedBytes() {
      return residents.usedBytes
    },
  }
}

function isHold(item: Hold | AdapterVersion): item is Hold {
  return 'release' in item
}

function versionOf(item: Hold | AdapterVersion): AdapterVersion {
  return isHold(item) ? item.version : item
}

function held({ version }: Hold, scale: number, { span }: AdapterRef): HeldAdapter {
  const { id, digest, manifest } = version.about
  return {
    applied: { id, digest, scale, ...(span && { span }) },
    components: version.components,
    defaultScale: manifest.defaultScale,
  }
}

function acquired(
  each: readonly HeldAdapter[],
  holds: readonly Hold[],
  onRelease: () => void,
): AcquiredAdapters {
  let isReleased = false
  return {
    applied: each.map(({ applied }) => applied),
    components: each.flatMap(({ applied: { scale }, components }) =>
      components.map((component) => ({ component, scale })),
    ),
    each,
    release() {
      if (isReleased) return
      isReleased = true
      for (const hold of holds) hold.release()
      onRelease()
    },
  }
}

function requireInside(root: string, id: string): AdapterFolder | null {
  try {
    return findAdapterFolder(root, id)
  } catch (error) {
    throw nameAdapter(id, error)
  }
}
