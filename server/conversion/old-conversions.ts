// Conversions that an earlier version of the server made and that no start will look for again, since
// the layout of weights has changed. They go by themselves; nothing else that is whole ever does.

import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { discardFolder, manifestName } from './converted-folder.ts'

/** Fields that manifests of every version have. A folder without a manifest is left alone. */
const versionSchema = z.object({ madeFrom: z.object({ graphVersion: z.number() }) })

export interface Removed {
  readonly count: number
  readonly bytes: number
}

/** Removes conversions older than `graphVersion`. A server that has one open keeps what it has. */
export function removeOldConversions(cacheDir: string, graphVersion: number): Removed {
  let count = 0
  let bytes = 0
  for (const name of readdirSync(cacheDir)) {
    const folder = join(cacheDir, name)
    const version = /^[0-9a-f]{32}$/.test(name) ? readVersion(folder) : undefined
    if (version === undefined || version >= graphVersion) continue
    const size = sizeOf(folder)
    if (!isDiscarded(folder)) continue
    count++
    bytes += size
  }
  return { count, bytes }
}

function readVersion(folder: string): number | undefined {
  try {
    const manifest = JSON.parse(readFileSync(join(folder, manifestName), 'utf8'))
    return versionSchema.parse(manifest).madeFrom.graphVersion
  } catch {
    return undefined
  }
}

function sizeOf(folder: string): number {
  return readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0)
}

/** False where it cannot be: a cache that is read-only, or a file that Windows holds open. */
function isDiscarded(folder: string): boolean {
  try {
    discardFolder(folder)
    return true
  } catch (error) {
    if (typeof (error as NodeJS.ErrnoException).code === 'string') return false
    throw error
  }
}
