// A converted checkpoint in the cache: weights.bin, a manifest that says what it was made from, how large
// it is and what it holds, and the graphs over it (graph-files.ts). Used only when the weights are whole.

import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { isSameStamp, stampOf, stampSchema } from '../checkpoint/file-stamp.ts'
import { weightsFileName } from '../graph/encoding.ts'
import { flushFile, flushFolder } from './disk-flush.ts'
import { hashFiles, type OnProgress } from './file-hashes.ts'
import { partialName } from './partial-folder.ts'

export const manifestName = 'manifest.json'

const manifestSchema = z.object({
  /** Where the checkpoint lay, for people who look into the cache. */
  checkpoint: z.string(),
  madeFrom: z.unknown(),
  weights: z.object({ sha256: z.string(), stamp: stampSchema }),
})

export type FolderState =
  | { readonly kind: 'whole' }
  | { readonly kind: 'absent' }
  | { readonly kind: 'damaged'; readonly reason: string }

/** The size always counts; the bytes are read where the stamp differs from the one of the last check. */
export async function checkFolder(folder: string, onProgress: OnProgress): Promise<FolderState> {
  if (!existsSync(folder)) return { kind: 'absent' }
  const damaged = (reason: string): FolderState => ({ kind: 'damaged', reason })
  const manifest = readManifest(folder)
  if (manifest === undefined) return damaged(`${manifestName} is missing or broken`)
  const { weights } = manifest
  const path = join(folder, weightsFileName)
  if (!existsSync(path)) return damaged(`${weightsFileName} is missing`)
  const stamp = stampOf(path)
  if (stamp.size !== weights.stamp.size) {
    return damaged(`${weightsFileName} has ${stamp.size} bytes instead of ${weights.stamp.size}`)
  }
  if (isSameStamp(stamp, weights.stamp)) return { kind: 'whole' }
  const [found] = await hashFiles([path], onProgress)
  if (found!.sha256 !== weights.sha256) {
    return damaged(`${weightsFileName} does not hold what was written`)
  }
  restamp(folder, { ...manifest, weights: { ...weights, stamp: found!.stamp } })
  return { kind: 'whole' }
}

/** Writes the manifest and everything to the disk, then gives the folder its name. */
export async function publishFolder(
  partial: string,
  folder: string,
  {
    checkpoint,
    madeFrom,
    onProgress,
    onFlush,
  }: {
    checkpoint: string
    madeFrom: unknown
    onProgress: OnProgress
    onFlush: (bytes: number) => void
  },
): Promise<void> {
  const path = join(partial, weightsFileName)
  const [hashed] = await hashFiles([path], onProgress)
  const { sha256, stamp } = hashed!
  const manifest: Manifest = { checkpoint, madeFrom, weights: { sha256, stamp } }
  const manifestPath = join(partial, manifestName)
  writeFileSync(manifestPath, JSON.stringify(manifest, null, 2))
  onFlush(stamp.size)
  flushFile(path)
  flushFile(manifestPath)
  flushFolder(partial)
  try {
    renameSync(partial, folder)
  } catch (error) {
    // Another process published the same meanwhile: then its result stands.
    if (!existsSync(join(folder, manifestName))) throw error
  }
  flushFolder(dirname(folder))
}

/** Moves the folder aside first, so that no process finds half of it. */
export function discardFolder(folder: string): void {
  const aside = partialName(folder)
  try {
    renameSync(folder, aside)
  } catch (error) {
    // Another process was quicker.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  rmSync(aside, { recursive: true, force: true })
}

type Manifest = z.infer<typeof manifestSchema>

/** Errors of this moment or of this process: they say nothing of what the file holds. */
const passing = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EIO', 'EACCES', 'EPERM'])

function readManifest(folder: string): Manifest | undefined {
  try {
    return manifestSchema.parse(JSON.parse(readFileSync(join(folder, manifestName), 'utf8')))
  } catch (error) {
    // A whole conversion is not discarded because it could not be looked at.
    if (passing.has((error as NodeJS.ErrnoException).code ?? '')) throw error
    return undefined
  }
}

/** So that the next start need not read the bytes again; a cache that is read-only stays as it is. */
function restamp(folder: string, manifest: Manifest): void {
  const partial = join(folder, `${manifestName}.${process.pid}`)
  try {
    writeFileSync(partial, JSON.stringify(manifest, null, 2))
    renameSync(partial, join(folder, manifestName))
  } catch {
    rmSync(partial, { force: true })
  }
}
