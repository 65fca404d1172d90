// The adapters in memory, held by requests or idle. Nothing here waits, so no other request comes
// between.
//
//            keep            last release
//   version ──────► held ◄───────────────► idle ─────► freed       (memory is needed, or retired)
//                    │           hold
//                    │ retired, last release
//                    └──────────────────────────────► freed
//
// A pinned one stays idle, whoever needs memory.

import { LRUCache } from 'lru-cache'
import type { AdapterVersion } from './versions.ts'

/** One request's use of an adapter, which stays in memory as long. */
export interface Hold {
  readonly version: AdapterVersion
  /** Idempotent. */
  release(): void
}

export interface Residents {
  /** The one of that name; does not count as a use. */
  find(id: string): AdapterVersion | undefined
  /** Holds the one of that name, where it is of this state of the folder, if one is given. */
  hold(id: string, fingerprint?: string): Hold | null
  /**
   * Holds a version, or the one of its name where that was read later. Makes it resident where it
   * may take memory; null: it may not, or there is none.
   */
  keep(version: AdapterVersion, mayTakeMemory: boolean): Hold | null
  /** Is no longer found by its name; the last release frees its memory. */
  retire(id: string): void
  /** Also of a name that is not there yet. */
  pin(id: string, isPinned: boolean): void
  isPinned(id: string): boolean
  /** In memory or not. */
  numPinned(): number
  /** What pinned ones take, but for those of these names. */
  pinnedBytes(but: readonly string[]): number
  /** Those that hold an adapter of that name, in any version. */
  numUsers(id: string): number
  /** Resolves when nobody does. */
  whenUnused(id: string): Promise<void>
  /** Most recently used first; those in use are before the idle ones. */
  ids(): readonly string[]
  /** Of held and idle vectors together. */
  readonly usedBytes: number
}

/** `onFree` is told once of each adapter whose memory is given back. */
export function createResidents(
  maxBytes: number,
  onFree: (version: AdapterVersion) => void = () => {},
): Residents {
  /** Least recently used first. Retired ones are not in it: they have no name any more. */
  const held = new Map<string, Entry>()
  // Held ones take of the same bound, so `takeMemory` evicts; the cache never reaches its own.
  const idle = new LRUCache<string, Entry>({
    maxSize: Math.max(1, Math.min(Math.floor(maxBytes), Number.MAX_SAFE_INTEGER)),
    sizeCalculation: ({ version }) => version.bytes,
    // An entry that becomes held leaves the cache, too.
    dispose: (entry) => {
      if (entry.numUsers === 0) free(entry)
    },
  })
  let usedBytes = 0
  const pinned = new Set<string>()
  /** By name, retired versions included. */
  const users = new Map<string, number>()
  const waiting = new Map<string, Set<() => void>>()

  function countUser(id: string, step: 1 | -1): void {
    const count = (users.get(id) ?? 0) + step
    if (count > 0) {
      users.set(id, count)
      return
    }
    users.delete(id)
    for (const resolve of waiting.get(id) ?? []) resolve()
    waiting.delete(id)
  }

  function free({ version }: Entry): void {
    usedBytes -= version.bytes
    onFree(version)
  }

  function entryOf(id: string): Entry | undefined {
    return held.get(id) ?? idle.peek(id)
  }

  function use(entry: Entry): Hold {
    const { id } = entry.version.about
    entry.numUsers++
    countUser(id, 1)
    idle.delete(id)
    held.delete(id)
    held.set(id, entry)
    let isReleased = false
    return {
      version: entry.version,
      release() {
        if (isReleased) return
        isReleased = true
        release(entry)
        countUser(id, -1)
      },
    }
  }

  function release(entry: Entry): void {
    if (--entry.numUsers > 0) return
    if (entry.isRetired) {
      free(entry)
      return
    }
    const { id } = entry.version.about
    held.delete(id)
    idle.set(id, entry)
  }

  function retire(id: string): void {
    const entry = held.get(id)
    if (entry === undefined) {
      idle.delete(id)
      return
    }
    entry.isRetired = true
    held.delete(id)
  }

  function pinnedBytes(but: readonly string[]): number {
    const entries = [...pinned].map((id) => (but.includes(id) ? undefined : entryOf(id)))
    return entries.reduce((sum, entry) => sum + (entry?.version.bytes ?? 0), 0)
  }

  /** Bytes of idle ones that may be evicted for an adapter of that name. */
  function evictableBytes(id: string): number {
    const keeps = [...pinned].filter((name) => name !== id).map((name) => idle.peek(name))
    return keeps.reduce((sum, entry) => sum - (entry?.version.bytes ?? 0), idle.calculatedSize)
  }

  /** Replaces the one of that name and evicts idle ones, least recently used first. */
  function takeMemory({ about, bytes }: AdapterVersion): boolean {
    if (usedBytes - evictableBytes(about.id) + bytes > maxBytes) return false
    retire(about.id)
    for (const id of [...idle.rkeys()]) {
      if (usedBytes + bytes <= maxBytes) break
      if (!pinned.has(id)) idle.delete(id)
    }
    usedBytes += bytes
    return true
  }

  return {
    find: (id) => entryOf(id)?.version,
    hold(id, fingerprint) {
      const entry = entryOf(id)
      if (entry === undefined) return null
      return (fingerprint ?? entry.version.fingerprint) === entry.version.fingerprint
        ? use(entry)
        : null
    },
    keep(version, mayTakeMemory) {
      const current = entryOf(version.about.id)
      if (current !== undefined && current.version.order >= version.order) return use(current)
      if (!mayTakeMemory || !takeMemory(version)) return null
      return use({ version, numUsers: 0, isRetired: false })
    },
    retire,
    pin(id, isPinned) {
      if (isPinned) pinned.add(id)
      else pinned.delete(id)
    },
    isPinned: (id) => pinned.has(id),
    numPinned: () => pinned.size,
    pinnedBytes,
    numUsers: (id) => users.get(id) ?? 0,
    whenUnused(id) {
      if (!users.has(id)) return Promise.resolve()
      return new Promise((resolve) => {
        waiting.set(id, (waiting.get(id) ?? new Set()).add(resolve))
      })
    },
    ids: () => [...[...held.keys()].reverse(), ...idle.keys()],
    get usedBytes() {
      return usedBytes
    },
  }
}

interface Entry {
  readonly version: AdapterVersion
  numUsers: number
  isRetired: boolean
}
