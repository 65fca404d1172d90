// The names in the adapters folder, sorted. The folder is read again only when its time stamp moved, or
// is too young to be trusted: two changes within one tick of the clock have the same stamp. A hundred
// thousand names are read and sorted in slices: running streams share the event loop, and a start on a
// slow disk tells with each slice that it gets on.

import { opendir, stat } from 'node:fs/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type AdapterFolder, createFolderFinder, entryKind } from './adapter-folder.ts'

export interface FolderEntry {
  readonly id: string
  /** null: the name cannot be used. */
  readonly find: (() => AdapterFolder | null) | null
}

/** Told of each slice of names. */
export type OnSlice = () => void
type EndSlice = () => Promise<void>

const trustedAfterMs = 2000
/** A start looks no longer than this into the folders. */
export const maxScanMs = 5000
const scanSliceMs = 20
/** Names that are taken, or sorted, in one turn. */
const sliceLength = 1024

export function createFolderIndex(root: string) {
  let entries: readonly FolderEntry[] = []
  let stamp = ''

  return {
    /** `onRead` is told of a fresh reading. */
    async read(
      onRead: (entries: readonly FolderEntry[]) => void,
      onSlice: OnSlice = () => {},
    ): Promise<readonly FolderEntry[]> {
      const current = await stampOf(root)
      if (current !== null && current === stamp) return entries
      const found = await readFolderEntries(root, onSlice)
      // Of two readings at once the last one stays, with the stamp from before it.
      entries = found
      stamp = current ?? ''
      onRead(found)
      return found
    },
  }
}

/** The folders in it by name. There are none where it cannot be read. */
export async function readFolderEntries(
  root: string,
  onSlice: OnSlice = () => {},
): Promise<readonly FolderEntry[]> {
  async function endSlice(): Promise<void> {
    onSlice()
    await nextTurn()
  }
  return sortInSlices(await readUnsorted(root, endSlice), endSlice)
}

export interface ScanEvents {
  /** After each slice of folders, and at the end of a scan of several. */
  readonly onProgress: (done: number, total: number) => void
  /** So many were not looked at: the time was over. */
  readonly onLeft: (left: number, total: number) => void
}

/** The folders of a listing one after the other, in slices, until the caller or the time ends it. */
export async function* scanFolders(
  entries: readonly FolderEntry[],
  { onProgress, onLeft }: ScanEvents,
): AsyncGenerator<() => AdapterFolder | null> {
  const folders = entries.flatMap(({ find }) => find ?? [])
  const end = performance.now() + maxScanMs
  let sliceEnd = performance.now() + scanSliceMs
  let isLong = false
  try {
    for (const [i, find] of folders.entries()) {
      const now = performance.now()
      if (now > end) {
        onLeft(folders.length - i, folders.length)
        return
      }
      if (now > sliceEnd) {
        isLong = true
        onProgress(i, folders.length)
        await nextTurn()
        sliceEnd = performance.now() + scanSliceMs
      }
      yield find
    }
  } finally {
    if (isLong) onProgress(folders.length, folders.length)
  }
}

async function readUnsorted(root: string, endSlice: EndSlice): Promise<FolderEntry[]> {
  const entries: FolderEntry[] = []
  const find = createFolderFinder(root)
  try {
    let numSeen = 0
    for await (const entry of await opendir(root, { bufferSize: sliceLength })) {
      if (++numSeen % sliceLength === 0) await endSlice()
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
async function sortInSlices(
  all: FolderEntry[],
  endSlice: EndSlice,
): Promise<readonly FolderEntry[]> {
  let runs: FolderEntry[][] = []
  for (let at = 0; at < all.length; at += sliceLength) {
    if (at > 0) await endSlice()
    runs.push(all.slice(at, at + sliceLength).sort((x, y) => (x.id < y.id ? -1 : 1)))
  }
  while (runs.length > 1) {
    const merged: FolderEntry[][] = []
    for (let i = 0; i < runs.length; i += 2) {
      merged.push(await merge(runs[i]!, runs[i + 1] ?? [], endSlice))
    }
    runs = merged
  }
  return runs[0] ?? []
}

async function merge(
  left: FolderEntry[],
  right: FolderEntry[],
  endSlice: EndSlice,
): Promise<FolderEntry[]> {
  const merged: FolderEntry[] = []
  let [l, r] = [0, 0]
  while (l < left.length || r < right.length) {
    const takesLeft = r === right.length || (l < left.length && left[l]!.id < right[r]!.id)
    merged.push(takesLeft ? left[l++]! : right[r++]!)
    if (merged.length % sliceLength === 0) await endSlice()
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
