// Tells a file from what it was before, without reading it.

import { type BigIntStats, statSync } from 'node:fs'
import { z } from 'zod'

/**
 * The change time alone cannot be set back, and a file that replaces another may get its inode. Stamps
 * of earlier versions have no change time, so they match nothing.
 */
export const stampSchema = z.object({
  size: z.number(),
  mtimeNs: z.string(),
  ctimeNs: z.string().default(''),
  inode: z.string(),
})
export type FileStamp = z.infer<typeof stampSchema>

/** Throws where there is no file. */
export function stampOf(path: string): FileStamp {
  return toStamp(statSync(path, { bigint: true }))
}

/** null where there is no file. */
export function findStamp(path: string): FileStamp | null {
  const info = statSync(path, { bigint: true, throwIfNoEntry: false })
  return info === undefined ? null : toStamp(info)
}

export function isSameStamp(x: FileStamp, y: FileStamp): boolean {
  return stampText(x) === stampText(y)
}

/** The same text for the same stamp. */
export function stampText({ inode, size, mtimeNs, ctimeNs }: FileStamp): string {
  return `${inode}.${size}.${mtimeNs}.${ctimeNs}`
}

function toStamp({ size, mtimeNs, ctimeNs, ino }: BigIntStats): FileStamp {
  return {
    size: Number(size),
    mtimeNs: String(mtimeNs),
    ctimeNs: String(ctimeNs),
    inode: String(ino),
  }
}
