// The graphs beside a converted checkpoint's weights. They are small and made anew at every start, but
// only written when they are not there: each set of adapter sites has graphs of its own over the same
// weights. A name is the digest of its contents, so none is ever replaced by another.

import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { flushFile, flushFolder } from './disk-flush.ts'
import { partialName } from './partial-folder.ts'

export interface GraphBytes {
  readonly model: Uint8Array
  /** The first layers only, over the same weights: what a device is tried with. */
  readonly probe: Uint8Array
  /** With the sites of a guard instead: what verdicts are computed with; null: by the whole graph. */
  readonly verdict: Uint8Array | null
}

/** Returns the path of the whole graph. `onNotice` reports one that differs from what was written. */
export function writeGraphs(
  folder: string,
  { model, probe, verdict }: GraphBytes,
  onNotice: (message: string) => void,
): string {
  const all = createHash('sha256').update(model).update(probe)
  const digest = all
    .update(verdict ?? '')
    .digest('hex')
    .slice(0, 16)
  const path = join(folder, `model.${digest}.onnx`)
  const missing = [
    { path, bytes: model },
    { path: probePath(path), bytes: probe },
    ...(verdict === null ? [] : [{ path: verdictPath(path), bytes: verdict }]),
  ].filter((file) => !isWritten(file, onNotice))
  for (const file of missing) writeWhole(folder, file)
  if (missing.length > 0) flushFolder(folder)
  return path
}

/** The graph of the first layers that was written beside a whole one. */
export function probePath(path: string): string {
  return besideModel(path, 'probe')
}

/** The graph of verdicts that was written beside a whole one. */
export function verdictPath(path: string): string {
  return besideModel(path, 'verdict')
}

function besideModel(path: string, name: string): string {
  return join(dirname(path), basename(path).replace(/^model/, name))
}

interface File {
  readonly path: string
  readonly bytes: Uint8Array
}

function isWritten({ path, bytes }: File, onNotice: (message: string) => void): boolean {
  if (!existsSync(path)) return false
  if (readFileSync(path).equals(bytes)) return true
  onNotice(`${path} is damaged: it is written again.`)
  return false
}

/** Written beside the folder, where leftovers are looked for, then given its name. */
function writeWhole(folder: string, { path, bytes }: File): void {
  const partial = partialName(folder)
  try {
    writeFileSync(partial, bytes)
    flushFile(partial)
    renameSync(partial, path)
  } finally {
    rmSync(partial, { force: true })
  }
}
