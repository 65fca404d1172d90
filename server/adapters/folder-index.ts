// The names in the adapters folder, sorted. The folder is read again only when its time stamp moved, or
// is too young to be trusted: two changes within one tick of the clock have the same stamp. A hundred
// thousand names are read and sorted in slices: running streams share the event loop.

import { opendir, stat } from 'node:fs/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type AdapterFolder, createFolderFinder, entryKind } from './adapter-folder.ts'

export interface FolderEntry {
  readonly id: string
  /** null: the name cannot be used. */
  readonly find: (() => AdapterFolder | null) | null
}

const trustedAfterMs = 2000
/** Names that are taken, or sorted, in one turn. */
const sliceLength = 1024

export function createFolderIndex(root: string) {
  let entries: readonly FolderEntry[] = []
  let stamp = ''

  return {
    /** `onRead` is told of a fresh reading. */
    async read(onRead: (entries: readonly FolderEntry[]) => void): Promise<readonly FolderEntry[]> {
      const current = await stampOf(root)
      if (current !== null && current === stamp) return entries
      const found = await sortInSlices(await readEntries(root))
      // Of two readings at once the last one stays, with the stamp from before it.
      entries = found
      stamp = current ?? ''
      onRead(found)
      return found
    },
  }
}

async function readEntries(root: string): Promise<FolderEntry[]> {
  const entries: FolderEntry[] = []
  const find = createFolderFinder(root)
  try {
    let numSeen = 0
    for await (const entry of await opendir(root, { bufferSize: sliceLength })) {
      if (++numSeen % sliceLength === 0) await nextTurn()
      const { name: id } = entry
      const kind = entryKind(root, entry)
      if (kind === 'usable') entries.push({ id, find: () => find(entry) })
      else if (kind === 'misnamed') entries.push({ id, find: null })
    }
  } catch {
    // There is no such folder, or it went meanwhile.
  }
  return entries
}

/** Sorted runs first, then pairs of them are merged. */
async function sortInSlices(all: FolderEntry[]): Promise<readonly FolderEntry[]> {
  let runs: FolderEntry[][] = []
  for (let at = 0; at < all.length; at += sliceLength) {
    if (at > 0) await nextTurn()
    runs.push(all.slice(at, at + sliceLength).sort((x, y) => (x.id < y.id ? -1 : 1)))
  }
  while (runs.length > 1) {
    const merged: FolderEntry[][] = []
    for (let i = 0; i < runs.length; i += 2) merged.push(await merge(runs[i]!, runs[i + 1] ?? []))
    runs = merged
  }
  return runs[0] ?? []
}

async function merge(left: FolderEntry[], right: FolderEntry[]): Promise<FolderEntry[]> {
  const merged: FolderEntry[] = []
  let [l, r] = [0, 0]
  while (l < left.length || r < right.length) {
    const takesLeft = r === right.length || (l < left.length && left[l]!.id < right[r]!.id)
    merged.push(takesLeft ? left[l++]! : right[r++]!)
    if (merged.length % sliceLength === 0) await nextTurn()
  }
  return merged
}

/** null: there is none, or it says too little. */
async function stampOf(root: string): Promise<string | null> {
  try {
    const { mtimeNs, ctimeNs, ino, dev } = await stat(root, { bigint: true })
    const ageMs = Date.now() - Number(mtimeNs / 1_000_000n)
    return ageMs < trustedAfterMs ? null : [mtimeNs, ctimeNs, ino, dev].join(':')
  } catch {
    return null
  }
}

/** Where those after a name begin. */
export function indexAfter(entries: readonly FolderEntry[], name: string | undefined): number {
  if (name === undefined) return 0
  let [low, high] = [0, entries.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (entries[middle]!.id <= name) low = middle + 1
    else high = middle
  }
  return low
}
