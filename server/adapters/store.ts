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
  type ScaledRankOne,
} from '../contracts/adapter.ts'
import type { LinearModule, ModelConfig } from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'
import { type AdapterFolder, findAdapterFolder, readFingerprint } from './adapter-folder.ts'
import { checkCombination, refuseRepeats } from './combination.ts'
import { createListing } from './listing.ts'
import { createMemoryQueue } from './memory-queue.ts'
import { type ReadAdapter, readPeftAdapter } from './peft.ts'
import { createResidents, type Hold } from './residents.ts'
import { requireNamed } from './strength.ts'
import { nameAdapter } from './summary.ts'
import { type AdapterVersion, createVersions } from './versions.ts'

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
}

/** What a request runs with. */
export interface AcquiredAdapters {
  readonly applied: readonly AppliedAdapter[]
  /** One per rank. */
  readonly components: readonly ScaledRankOne[]
  /** Idempotent. Afterwards the adapters may be evicted. */
  release(): void
}

export interface AdapterStore {
  /** Adapter folders by name; all by default. Reads names and small JSON files, never tensors. */
  list(query?: AdapterQuery): Promise<readonly AdapterSummary[]>
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

export function createAdapterStore(options: AdapterStoreOptions): AdapterStore {
  const { root, maxBytes, maxRankPerRow, read = readPeftAdapter } = options
  const { baseDigest = null, operators = [], onNotice = () => {} } = options
  const reserved = new Set(['none', ...(options.reserved ?? [])])
  const versions = createVersions({
    ...options,
    read,
    maxRank: maxRankPerRow,
    baseDigest,
    operators,
    onNotice,
  })
  const residents = createResidents(maxBytes)
  const queue = createMemoryQueue()
  const listing = createListing({
    root,
    reserved,
    baseDigest,
    modelConfig: options.modelConfig,
    known: (id) => ({ resident: residents.find(id), failure: versions.failureOf(id) }),
  })

  function requireFolder(id: string): AdapterFolder {
    const isName = adapterNamePattern.test(id) && !reserved.has(id)
    const folder = isName ? requireInside(root, id) : null
    if (folder !== null) return folder
    residents.retire(id)
    versions.forget(id)
    throw new ServerError('model_not_found', `There is no adapter "${id.slice(0, 64)}".`, {
      param: 'adapter',
    })
  }

  /** The adapter as it is on disk now: the resident one, held, if that is still true; else read. */
  async function findOrRead(id: string): Promise<Hold | AdapterVersion> {
    const folder = requireFolder(id)
    return residents.hold(id, readFingerprint(folder)) ?? versions.read(folder)
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
      checkCombination(selection, found.map(versionOf), options)
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
      const strengths = checkCombination(selection, used.map(versionOf), options)
      return acquired(used, strengths, queue.memoryMayBeFree)
    } catch (error) {
      letGo()
      throw error
    }
  }

  return {
    list: (query = {}) => listing.read(query),
    async acquire(selection, signal = new AbortController().signal) {
      refuseRepeats(selection)
      requireNamed(selection)
      // Whoever waits for memory comes before those who come later.
      const atOnce = await tryAcquire(selection, false)
      return atOnce ?? queue.wait(() => tryAcquire(selection, true), signal)
    },
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

function acquired(
  holds: readonly Hold[],
  strengths: readonly number[],
  onRelease: () => void,
): AcquiredAdapters {
  let isReleased = false
  return {
    applied: holds.map(({ version: { about } }, i) => ({
      id: about.id,
      digest: about.digest,
      scale: strengths[i]!,
    })),
    components: holds.flatMap(({ version }, i) =>
      version.components.map((component) => ({ component, scale: strengths[i]! })),
    ),
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
