// What the process has had from a disk, as Linux counts it: also pages of files that native code maps. It
// tells a slow disk from a call that hangs.

import { readFileSync } from 'node:fs'

/** Bytes read from storage so far; null where the system does not say. */
export function readStorageBytes(read = readCounters): number | null {
  const bytes = /^read_bytes: (\d+)$/m.exec(read() ?? '')?.[1]
  return bytes === undefined ? null : Number(bytes)
}

/** How often, of all calls, more had been read than at the call before. */
export function createReadProgress(storageBytes: () => number | null): () => number {
  let last = storageBytes()
  let count = 0
  return function progress() {
    const now = storageBytes()
    if (now !== null && last !== null && now > last) count++
    last = now
    return count
  }
}

function readCounters(): string | undefined {
  try {
    return readFileSync('/proc/self/io', 'latin1')
  } catch {
    return undefined // Not Linux, or not allowed.
  }
}
