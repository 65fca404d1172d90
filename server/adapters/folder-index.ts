// The names in the adapters folder, sorted. The folder is read again only when its time stamp moved, or
// is too young to be trusted: two changes within one tick of the clock have the same stamp.

import { stat } from 'node:fs/promises'
import type { AdapterFolder } from './adapter-folder.ts'
import { listAdapterFolders, listUnusableNames } from './adapter-folder.ts'

export interface FolderEntry {
  readonly id: string
  /** null: the name cannot be used. */
  readonly find: (() => AdapterFolder | null) | null
}

const trustedAfterMs = 2000

export function createFolderIndex(root: string) {
  let entries: readonly FolderEntry[] = []
  let stamp = ''

  return {
    /** `onRead` is told of a fresh reading. */
    async read(onRead: (entries: readonly FolderEntry[]) => void): Promise<readonly FolderEntry[]> {
      const current = await stampOf(root)
      if (current !== null && current === stamp) return entries
      entries = [
        ...listAdapterFolders(root),
        ...listUnusableNames(root).map((id) => ({ id, find: null })),
      ].sort((x, y) => (x.id < y.id ? -1 : 1))
      stamp = current ?? ''
      onRead(entries)
      return entries
    },
  }
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
