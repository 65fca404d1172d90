// The adapters folder and what of it is in memory. Adapters are read on demand, validated wholly
// before a request sees them, and evicted least recently used first, never while a request uses
// them. A folder that changed on disk is a new version: requests under way keep the old one.

import { readdirSync } from 'node:fs'
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
import { type LoadedAdapter, readPeftAdapter, refuseRank } from './peft.ts'
import { nameAdapter, summarizeAdapter } from './summary.ts'

export interface AdapterStoreOptions {
  readonly root: string
  readonly modelConfig: ModelConfig
  /** The modules that the engine's graph has a site for. */
  readonly sites: ReadonlySet<LinearModule>
  /** Most bytes of vectors that are kept. */
  readonly maxBytes: number
  readonly maxRankPerRow: number
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
  list(): readonly AdapterSummary[]
  /** Loads what is not there. All or nothing; rejects with ServerError. */
  acquire(refs: readonly AdapterRef[]): Promise<AcquiredAdapters>
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
  const { root, modelConfig, sites, maxBytes, maxRankPerRow } = options
  // Unbounded in itself: only makeRoom evicts, and never what is in use.
  const residents = new LRUCache<string, Resident>({ max: maxResidents })
  let usedBytes = 0
  const reading = new Map<string, Promise<Version>>()
  const failures = new Map<string, { fingerprint: string; error: ErrorBody }>()
  let numReads = 0

  // ---- Reading ----

  function requireFolder(id: string): AdapterFolder {
    const folder = adapterNamePattern.test(id) ? requireInside(root, id) : null
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
    let read = reading.get(id)
    if (!read) {
      read = readVersion(folder).finally(() => reading.delete(id))
      reading.set(id, read)
    }
    return read
  }

  async function readVersion(folder: AdapterFolder): Promise<Version> {
    let fingerprint = readFingerprint(folder)
    for (let attempt = 1; ; attempt++) {
      const order = ++numReads
      const result = await readPeftAdapter(folder, {
        model: modelConfig,
        maxRank: maxRankPerRow,
        served: sites,
      })
        .then((adapter) => ({ adapter, error: null }))
        .catch((error: unknown) => ({ adapter: null, error: nameAdapter(folder.id, error) }))
      const after = readFingerprint(folder)
      if (after === fingerprint) {
        if (result.adapter) {
          failures.delete(folder.id)
          return { adapter: result.adapter, fingerprint, order }
        }
        if (result.error instanceof ServerError) {
          failures.set(folder.id, { fingerprint, error: result.error.toBody() })
        }
        throw result.error
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

  // ---- Residents. Nothing below waits, so no other request comes between. ----

  function hold(resident: Resident): Resident {
    resident.numUsers++
    return resident
  }

  /** Makes a version resident, unless the same or a newer one is by now. */
  function place({ adapter, fingerprint, order }: Version): Resident {
    const { components, ...about } = adapter
    const current = residents.get(about.id)
    if (current && current.order >= order) return current
    const bytes = components.reduce((sum, component) => sum + componentBytes(component), 0)
    if (!makeRoom(bytes)) {
      throw new ServerError(
        'adapter_limit',
        `There is no room for adapter "${about.id}" (${bytes} bytes): adapters of running requests ` +
          `fill the ${maxBytes} bytes of --adapter-memory. Try again, or raise it.`,
      )
    }
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

  async function acquire(refs: readonly AdapterRef[]): Promise<AcquiredAdapters> {
    refuseRepeats(refs)
    const found: (Resident | Version)[] = []
    const users: Resident[] = []
    try {
      // One after the other: four hostile folders are not held in memory at once.
      for (const { id } of refs) found.push(await findOrRead(id))
      checkTotalRank(refs, found)
      for (const item of found) users.push(isResident(item) ? item : hold(place(item)))
      // A newer version may have become resident while the others were read.
      checkTotalRank(refs, users)
    } catch (error) {
      const held = found.filter(isResident)
      new Set([...held, ...users]).forEach(leave)
      throw error
    }
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
      },
    }
  }

  function checkTotalRank(refs: readonly AdapterRef[], items: readonly (Resident | Version)[]) {
    const total = items.reduce((sum, item) => sum + describe(item).rank, 0)
    if (total > maxRankPerRow) {
      refuseRank(refs.map(({ id }) => id).join(' + '), total, maxRankPerRow)
    }
  }

  function summarize(id: string): AdapterSummary | null {
    return summarizeAdapter(root, id, {
      resident: residents.peek(id),
      failure: failures.get(id),
    })
  }

  return {
    list() {
      const names = readNames(root)
      const summaries: AdapterSummary[] = []
      for (const id of names.filter((name) => adapterNamePattern.test(name)).sort()) {
        const summary = summarize(id)
        if (summary) summaries.push(summary)
      }
      return summaries
    },
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

function readNames(root: string): string[] {
  try {
    return readdirSync(root)
  } catch {
    return []
  }
}

const isResident = (item: Resident | Version): item is Resident => 'components' in item

const describe = (item: Resident | Version): { readonly rank: number } =>
  isResident(item) ? item.about : item.adapter

function refuseRepeats(refs: readonly AdapterRef[]): void {
  const repeated = refs.find(({ id }, i) => refs.findIndex((other) => other.id === id) !== i)
  if (!repeated) return
  throw new ServerError('adapter_conflict', `Adapter "${repeated.id}" is named twice.`, {
    param: 'adapter',
  })
}
