// The SHA-256 of a file that may be larger than memory. Runs in the caller's thread or, as a task,
// beside others.

import { createHash } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'
import { defineTask, type OnBytes } from '../threads/task.ts'

const chunkBytes = 4 << 20

export function hashFile(path: string, onBytes: OnBytes): string {
  const hash = createHash('sha256')
  const chunk = Buffer.allocUnsafeSlow(chunkBytes)
  const file = openSync(path, 'r')
  try {
    for (;;) {
      const got = readSync(file, chunk, 0, chunkBytes, null)
      if (got === 0) return hash.digest('hex')
      hash.update(chunk.subarray(0, got))
      onBytes(got)
    }
  } finally {
    closeSync(file)
  }
}

export const hashFileTask = defineTask({ url: import.meta.url, run: hashFile })
