// A converted checkpoint in the cache: two graphs, weights.bin and a manifest that says what they were
// made from, how large they are and what they hold. A folder is used only when it is whole.

import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { weightsFileName } from '../graph/encoding.ts'
import { hashFiles, isSameStamp, type OnProgress, stampOf, stampSchema } from './file-hashes.ts'
import { partialName } from './partial-folder.ts'

export const modelFileName = 'model.onnx'
/** A graph of the first layers only, over the same weights: what a device is tried with. */
export const probeFileName = 'probe.onnx'
const manifestName = 'manifest.json'
const fileNames = [modelFileName, probeFileName, weightsFileName]

const manifestSchema = z.object({
  madeFrom: z.unknown(),
  files: z.record(z.string(), z.object({ sha256: z.string(), stamp: stampSchema })),
})

export type FolderState =
  | { readonly kind: 'whole' }
  | { readonly kind: 'absent' }
  | { readonly kind: 'damaged'; readonly reason: string }

/** Sizes always count; the bytes are read where a stamp differs from the one of the last check. */
export async function checkFolder(folder: string, onProgress: OnProgress): Promise<FolderState> {
  if (!existsSync(folder)) return { kind: 'absent' }
  const damaged = (reason: string): FolderState => ({ kind: 'damaged', reason })
  const manifest = readManifest(folder)
  if (manifest === undefined) return damaged(`${manifestName} is missing or broken`)
  const changed: string[] = []
  for (const name of fileNames) {
    const path = join(folder, name)
    const recorded = manifest.files[name]
    if (recorded === undefined) return damaged(`${manifestName} does not name ${name}`)
    if (!existsSync(path)) return damaged(`${name} is missing`)
    const stamp = stampOf(path)
    if (stamp.size !== recorded.stamp.size) {
      return damaged(`${name} has ${stamp.size} bytes instead of ${recorded.stamp.size}`)
    }
    if (!isSameStamp(stamp, recorded.stamp)) changed.push(name)
  }
  if (changed.length === 0) return { kind: 'whole' }
  const hashed = await hashFiles(
    changed.map((name) => join(folder, name)),
    onProgress,
  )
  for (const [i, name] of changed.entries()) {
    if (hashed[i]!.sha256 !== manifest.files[name]!.sha256) {
      return damaged(`${name} does not hold what was written`)
    }
    manifest.files[name]!.stamp = hashed[i]!.stamp
  }
  restamp(folder, manifest)
  return { kind: 'whole' }
}

/** Writes the manifest and everything to the disk, then gives the folder its name. */
export async function publishFolder(
  partial: string,
  folder: string,
  { madeFrom, onProgress }: { madeFrom: unknown; onProgress: OnProgress },
): Promise<void> {
  const paths = fileNames.map((name) => join(partial, name))
  const hashed = await hashFiles(paths, onProgress)
  const files = Object.fromEntries(
    hashed.map(({ sha256, stamp }, i) => [fileNames[i], { sha256, stamp }]),
  )
  const manifestPath = join(partial, manifestName)
  writeFileSync(manifestPath, JSON.stringify({ madeFrom, files }, null, 2))
  for (const path of [...paths, manifestPath]) flush(path)
  flushFolder(partial)
  try {
    renameSync(partial, folder)
  } catch (error) {
    // Another process published the same meanwhile: then its result stands.
    if (!existsSync(join(folder, manifestName))) throw error
  }
  flushFolder(dirname(folder))
}

/** Moved aside first, so that nobody finds half of it. */
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

function readManifest(folder: string): Manifest | undefined {
  try {
    return manifestSchema.parse(JSON.parse(readFileSync(join(folder, manifestName), 'utf8')))
  } catch {
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

function flush(path: string): void {
  const file = openSync(path, 'r+')
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

/** A name lasts once its folder is written; Windows has no such call. */
function flushFolder(path: string): void {
  if (process.platform === 'win32') return
  const folder = openSync(path, 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}
