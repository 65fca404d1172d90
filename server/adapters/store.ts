// The adapters folder and what of it is in memory. Adapters are read on demand, validated wholly
// before a request sees them, and evicted least recently used first, never while a request uses
// them; a request that finds no room waits for it. A folder that changed on disk is a new version:
// requests under way keep the old one.

import { setTimeout as sleep } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import {
  type AdapterRef,
  type AdapterSummary,
  type AppliedAdapter,
  adapterNamePattern,
  type Component,
  componentBytes,
  type ScaledComponent,
} from '../contracts/adapter.ts'
import type { LinearModule, ModelConfig } from '../contracts/checkpoint.ts'
import { type ErrorBody, ServerError } from '../errors.ts'
import { type AdapterFolder, findAdapterFolder, readFingerprint } from './adapter-folder.ts'
import { createListing } from './listing.ts'
import { otherBase } from './manifest.ts'
import { type LoadedAdapter, type ReadAdapter, readPeftAdapter, refuseRank } from './peft.ts'
import { createRoomLine } from './room-line.ts'
import { nameAdapter } from './summary.ts'

export interface AdapterStoreOptions {
  readonly root: string
  readonly modelConfig: ModelConfig
  /** The modules that the engine's graph has a site for. */
  readonly sites: ReadonlySet<LinearModule>
  /** Of the base that is served; null, as by default: adapters of any base are taken. */
  readonly baseDigest?: string | null
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
  readonly components: readonly ScaledComponent[]
  /** Idempotent. Afterwards the adapters may be evicted. */
  release(): void
}

export interface AdapterStore {
  /** Every adapter folder, by name. Reads names and small JSON files, never tensors. */
  list(): Promise<readonly AdapterSummary[]>
  /**
   * Loads what is not there. All or nothing; rejects with ServerError. Where other requests' adapters
   * fill the memory it waits for room, until the signal ends the wait.
   */
  acquire(refs: readonly AdapterRef[], signal?: AbortSignal): Promise<AcquiredAdapters>
  /** Most recently used first. */
  residentIds(): readonly string[]
  /** Of all vectors that are kept or in use. */
  readonly usedBytes: number
}

/** An adapter that was read, under the state of the folder in which it was read. */
interface Version {
  readonly adapter: LoadedAdapter
  readonly fingerprint: string
  /** Later reads have higher numbers. */
  readonly order: number
}

interface Resident {
  readonly about: Omit<LoadedAdapter, 'components'>
  readonly fingerprint: string
  readonly order: number
  readonly components: readonly Component[]
  readonly bytes: number
  numUsers: number
  /** No longer found by its name; its memory is given back by the last user. */
  isRetired: boolean
}

/** Far more than any folder holds; bounds the list alone. */
const maxResidents = 100_000
const maxReadAttempts = 3
const retryDelayMs = 50

export function createAdapterStore(options: AdapterStoreOptions): AdapterStore {
  const { root, modelConfig, sites, maxBytes, maxRankPerRow, read = readPeftAdapter } = options
  const { baseDigest = null, onNotice = () => {} } = options
  const reserved = new Set(['none', ...(options.reserved ?? [])])
  // Unbounded in itself: only makeRoom evicts, and never what is in use.
  const residents = new LRUCache<string, Resident>({ max: maxResidents })
  let usedBytes = 0
  const reading = new Map<string, Promise<Version>>()
  const failures = new Map<string, { fingerprint: string; error: ErrorBody }>()
  let numReads = 0
  const line = createRoomLine()
  const listing = createListing({
    root,
    reserved,
    baseDigest,
    known: (id) => ({ resident: residents.peek(id), failure: failures.get(id) }),
  })

  // ---- Reading ----

  function requireFolder(id: string): AdapterFolder {
    const isName = adapterNamePattern.test(id) && !reserved.has(id)
    const folder = isName ? requireInside(root, id) : null
    if (folder) return folder
    retire(id)
    failures.delete(id)
    throw new ServerError('model_not_found', `There is no adapter "${id.slice(0, 64)}".`, {
      param: 'adapter',
    })
  }

  /** The adapter as it is on disk now: the resident, held already, if that is still true; else read. */
  async function findOrRead(id: string): Promise<Resident | Version> {
    const folder = requireFolder(id)
    const fingerprint = readFingerprint(folder)
    const resident = residents.get(id)
    if (resident?.fingerprint === fingerprint) return hold(resident)
    // Concurrent callers share one read; a rejection is not kept.
    let version = reading.get(id)
    if (!version) {
      version = readVersion(folder).finally(() => reading.delete(id))
      reading.set(id, version)
    }
    return version
  }

  async function readVersion(folder: AdapterFolder): Promise<Version> {
    let fingerprint = readFingerprint(folder)
    for (let attempt = 1; ; attempt++) {
      const order = ++numReads
      const result = await read(folder, {
        model: modelConfig,
        maxRank: maxRankPerRow,
        served: sites,
      })
        .then((adapter) => {
          const refusal = otherBase(adapter.manifest, baseDigest)
          if (refusal) throw refusal
          return { adapter, error: null }
        })
        .catch((error: unknown) => ({ adapter: null, error: nameAdapter(folder.id, error) }))
      const after = readFingerprint(folder)
      if (after === fingerprint) {
        if (result.adapter) {
          failures.delete(folder.id)
          for (const warning of result.adapter.manifest.warnings) {
            onNotice(`Adapter "${folder.id}": ${warning}`)
          }
          return { adapter: result.adapter, fingerprint, order }
        }
        throw recordFailure(folder.id, fingerprint, result.error)
      }
      // Somebody writes the folder: what was read may be half of it.
      if (attempt === maxReadAttempts) {
        throw nameAdapter(
          folder.id,
          new ServerError('invalid_adapter', 'its files are being written; try again.'),
        )
      }
      fingerprint = after
      await sleep(retryDelayMs)
    }
  }

  function recordFailure(id: string, fingerprint: string, error: unknown): unknown {
    if (!(error instanceof ServerError)) return error
    const { code, message, param, needs } = error
    if (needs === null) {
      failures.set(id, { fingerprint, error: error.toBody() })
      return error
    }
    // Nothing is wrong with the folder: another engine would serve it.
    return new ServerError(code, message, { param, needs: { ...needs, version: fingerprint } })
  }

  // ---- Residents. Nothing below waits, so no other request comes between. ----

  function hold(resident: Resident): Resident {
    resident.numUsers++
    return resident
  }

  /** Makes a version resident, unless the same or a newer one is by now. Null: there is no room. */
  function place({ adapter, fingerprint, order }: Version, mayTakeRoom: boolean): Resident | null {
    const { components, ...about } = adapter
    const current = residents.get(about.id)
    if (current && current.order >= order) return current
    const bytes = bytesOf(adapter)
    if (!mayTakeRoom || !makeRoom(bytes)) return null
    retire(about.id)
    const placed = { about, fingerprint, order, components, bytes, numUsers: 0, isRetired: false }
    residents.set(about.id, placed)
    usedBytes += bytes
    return placed
  }

  /** Evicts idle adapters, least recently used first, until `bytes` are free. */
  function makeRoom(bytes: number): boolean {
    if (usedBytes + bytes <= maxBytes) return true
    const idle = [...residents.rkeys()]
      .map((id) => residents.peek(id)!)
      .filter(({ numUsers }) => numUsers === 0)
    const idleBytes = idle.reduce((sum, resident) => sum + resident.bytes, 0)
    if (usedBytes - idleBytes + bytes > maxBytes) return false
    for (const { about } of idle) {
      if (usedBytes + bytes <= maxBytes) break
      retire(about.id)
    }
    return true
  }

  function retire(id: string): void {
    const resident = residents.peek(id)
    if (!resident) return
    residents.delete(id)
    resident.isRetired = true
    if (resident.numUsers === 0) usedBytes -= resident.bytes
  }

  function leave(resident: Resident): void {
    resident.numUsers--
    if (resident.isRetired && resident.numUsers === 0) usedBytes -= resident.bytes
  }

  // ---- What callers see ----

  /** Null: adapters in use leave no room for these now. */
  async function tryAcquire(
    refs: readonly AdapterRef[],
    isFirstInLine: boolean,
  ): Promise<AcquiredAdapters | null> {
    const found: (Resident | Version)[] = []
    const users: Resident[] = []
    const letGo = () => {
      new Set([...found.filter(isResident), ...users]).forEach(leave)
      // Who was first tried with these held: nothing changed for it.
      if (!isFirstInLine) line.roomMayBeFree()
    }
    try {
      // One after the other: four hostile folders are not held in memory at once.
      for (const { id } of refs) found.push(await findOrRead(id))
      checkTotalRank(refs, found)
      refuseTooLarge(refs, found)
      for (const item of found) {
        const resident = isResident(item) ? item : place(item, isFirstInLine || line.isEmpty)
        if (resident === null) {
          letGo()
          return null
        }
        users.push(isResident(item) ? item : hold(resident))
      }
      // A newer version may have become resident while the others were read.
      checkTotalRank(refs, users)
    } catch (error) {
      letGo()
      throw error
    }
    return held(refs, users)
  }

  function held(refs: readonly AdapterRef[], users: readonly Resident[]): AcquiredAdapters {
    const scales = users.map(({ about }, i) => refs[i]!.scale ?? about.manifest.defaultScale)
    let isReleased = false
    return {
      applied: users.map(({ about: { id, digest } }, i) => ({ id, digest, scale: scales[i]! })),
      components: users.flatMap(({ components }, i) =>
        components.map((component) => ({ component, scale: scales[i]! })),
      ),
      release() {
        if (isReleased) return
        isReleased = true
        users.forEach(leave)
        line.roomMayBeFree()
      },
    }
  }

  async function acquire(
    refs: readonly AdapterRef[],
    signal = new AbortController().signal,
  ): Promise<AcquiredAdapters> {
    refuseRepeats(refs)
    // Whoever waits for room comes before those who come later.
    const atOnce = await tryAcquire(refs, false)
    return atOnce ?? line.wait(() => tryAcquire(refs, true), signal)
  }

  function refuseTooLarge(refs: readonly AdapterRef[], items: readonly (Resident | Version)[]) {
    const bytes = items.reduce((sum, item) => {
      return sum + (isResident(item) ? item.bytes : bytesOf(item.adapter))
    }, 0)
    if (bytes <= maxBytes) return
    throw new ServerError(
      'adapter_limit',
      `${refs.map(({ id }) => id).join(' + ')} would take ${bytes} bytes; --adapter-memory holds ` +
        `${maxBytes}. Raise it.`,
    )
  }

  function checkTotalRank(refs: readonly AdapterRef[], items: readonly (Resident | Version)[]) {
    const total = items.reduce((sum, item) => sum + describe(item).rank, 0)
    if (total > maxRankPerRow) {
      refuseRank(refs.map(({ id }) => id).join(' + '), total, maxRankPerRow)
    }
  }

  return {
    list: listing.read,
    acquire,
    residentIds: () => [...residents.keys()],
    get usedBytes() {
      return usedBytes
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

const isResident = (item: Resident | Version): item is Resident => 'components' in item

const bytesOf = ({ components }: LoadedAdapter): number =>
  components.reduce((sum, component) => sum + componentBytes(component), 0)

const describe = (item: Resident | Version): { readonly rank: number } =>
  isResident(item) ? item.about : item.adapter

function refuseRepeats(refs: readonly AdapterRef[]): void {
  const repeated = refs.find(({ id }, i) => refs.findIndex((other) => other.id === id) !== i)
  if (!repeated) return
  throw new ServerError('adapter_conflict', `Adapter "${repeated.id}" is named twice.`, {
    param: 'adapter',
  })
}
