// What the checkpoint's files hold, as SHA-256 each. Reading 15 GB at every start would be slow, so a
// hash is remembered in the cache folder for as long as the file's stamp stays the same.

import { createHash } from 'node:crypto'
import { readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { type FileStamp, isSameStamp, stampOf, stampSchema } from '../checkpoint/file-stamp.ts'
import { makeFolder } from '../checkpoint/make-folder.ts'
import { runTasks } from '../threads/run-tasks.ts'
import { hashFile, hashFileTask } from './file-hash.ts'

const rememberedSchema = z.object({ path: z.string(), stamp: stampSchema, sha256: z.string() })

/** Below this many bytes threads cost more than they bring. */
const threadsFrom = 64 << 20

/** Told how many bytes of how many are done. */
export type OnProgress = (done: number, total: number) => void

export interface HashedFile {
  readonly path: string
  readonly stamp: FileStamp
  readonly sha256: string
}

/** Hashes every file anew, in threads where that helps. */
export async function hashFiles(
  paths: readonly string[],
  onProgress: OnProgress = () => {},
): Promise<HashedFile[]> {
  // Stamped before it is read: a file that changes meanwhile then differs from its stamp.
  const stamps = paths.map(stampOf)
  const total = stamps.reduce((sum, { size }) => sum + size, 0)
  let done = 0

  function onBytes(bytes: number) {
    done += bytes
    onProgress(done, total)
  }

  const hashes =
    total < threadsFrom
      ? paths.map((path) => hashFile(path, onBytes))
      : await runTasks(hashFileTask, paths, { limit: availableParallelism(), onBytes })
  return paths.map((path, i) => ({ path, stamp: stamps[i]!, sha256: hashes[i]! }))
}

/** The same, reading only those files that are not remembered in `cacheDir` as they are now. */
export async function knownHashes(
  paths: readonly string[],
  { cacheDir, onProgress }: { cacheDir: string; onProgress: OnProgress },
): Promise<HashedFile[]> {
  const memory = join(cacheDir, 'hashes')
  const known = new Map(paths.map((path) => [path, recall(memory, path)]))
  const unknown = paths.filter((path) => known.get(path) === undefined)
  for (const file of await hashFiles(unknown, onProgress)) {
    known.set(file.path, file)
    remember(memory, file)
  }
  return paths.map((path) => known.get(path)!)
}

function memoryPath(memory: string, realPath: string) {
  return join(memory, `${createHash('sha256').update(realPath).digest('hex').slice(0, 32)}.json`)
}

function recall(memory: string, path: string): HashedFile | undefined {
  const realPath = realpathSync(path)
  const stamp = stampOf(path)
  try {
    const remembered = rememberedSchema.parse(
      JSON.parse(readFileSync(memoryPath(memory, realPath), 'utf8')),
    )
    if (remembered.path !== realPath || !isSameStamp(remembered.stamp, stamp)) return undefined
    return { path, stamp, sha256: remembered.sha256 }
  } catch {
    return undefined // Never seen, or its entry is broken: it is read again.
  }
}

/** A cache that cannot be written is no reason to stop: the file is read again next time. */
function remember(memory: string, { path, stamp, sha256 }: HashedFile): void {
  const realPath = realpathSync(path)
  const target = memoryPath(memory, realPath)
  const partial = `${target}.${process.pid}`
  try {
    makeFolder(memory)
    writeFileSync(partial, JSON.stringify({ path: realPath, stamp, sha256 }))
    renameSync(partial, target)
  } catch {
    rmSync(partial, { force: true })
  }
}
