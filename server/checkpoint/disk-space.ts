// Free space on a disk.

import { statfsSync } from 'node:fs'

/** Free bytes for this user; null where the file system does not report them. */
export function freeBytes(folder: string): number | null {
  const { blocks, bavail, bsize } = statfsSync(folder)
  return blocks === 0 ? null : bavail * bsize
}
