// The files of an adapter folder, read so that nothing outside the adapters root is ever opened
// and a folder that is being written is noticed. Small files are read at once, tensors without
// blocking.

import {
  closeSync,
  constants,
  type Dirent,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  realpathSync,
  statSync,
} from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { findStamp, stampText } from '../checkpoint/file-stamp.ts'
import { adapterFiles, adapterNamePattern } from '../contracts/adapter.ts'
import { ServerError } from '../errors.ts'

export const configFile = adapterFiles.config
export const tensorsFile = adapterFiles.tensors
export const manifestFile = adapterFiles.manifest

const maxConfigBytes = 1_000_000
const maxManifestBytes = 128_000
const pickles = ['adapter_model.bin', 'adapter_model.pt', 'adapter_model.pth']

export interface AdapterFolder {
  readonly id: string
  readonly path: string
  /** The root without symbolic links; every file must resolve to a place in it. */
  readonly root: string
}

/** The folder of that name, or null when there is none. A link that leads out is refused. */
export function findAdapterFolder(root: string, id: string): AdapterFolder | null {
  const realRoot = resolve(root)
  const path = realRoot === null ? null : resolve(join(realRoot, id))
  if (realRoot === null || path === null) return null
  if (!path.startsWith(realRoot + sep)) refuseEscape('the folder')
  return statSync(path).isDirectory() ? { id, path, root: realRoot } : null
}

/** It was found before, and may have been taken away since. */
export function isThere({ path }: AdapterFolder): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}

/**
 * Finds the folders of usable entries of one listing. One that is no link is known to be inside, so a
 * list of thousands costs one look at the root; links are followed when asked for.
 */
export function createFolderFinder(root: string): (entry: Dirent) => AdapterFolder | null {
  let realRoot: string | null = null
  return (entry) => {
    if (!entry.isDirectory()) return findAdapterFolder(root, entry.name)
    realRoot ??= resolve(root)
    if (realRoot === null) return null
    return { id: entry.name, path: join(realRoot, entry.name), root: realRoot }
  }
}

/**
 * What an entry of the root is: a folder that an adapter may have the name of, one that none may, or
 * neither. A name that begins with a dot is a tool's, unless the folder is an adapter.
 */
export function entryKind(root: string, entry: Dirent): 'usable' | 'misnamed' | 'other' {
  const { name } = entry
  if (adapterNamePattern.test(name)) {
    return entry.isDirectory() || entry.isSymbolicLink() ? 'usable' : 'other'
  }
  if (!entry.isDirectory()) return 'other'
  const isOwn = !name.startsWith('.') || existsSync(join(root, name, configFile))
  return isOwn ? 'misnamed' : 'other'
}

/**
 * Changes whenever one of the files does: size, times and inode of each. Missing files are part
 * of it, so it never throws.
 */
export function readFingerprint({ path }: AdapterFolder): string {
  const parts = [configFile, tensorsFile, manifestFile].map((name) => {
    const stamp = findStamp(join(path, name))
    return stamp === null ? 'none' : stampText(stamp)
  })
  return `${path}:${parts.join(':')}`
}

/** Milliseconds since one of the files changed, were it only its name; negative: its clock is ahead. */
export function quietMs({ path }: AdapterFolder): number {
  const changes = [configFile, tensorsFile, manifestFile].map((name) => {
    const stamp = findStamp(join(path, name))
    return stamp === null ? 0n : BigInt(stamp.ctimeNs)
  })
  const latest = changes.reduce((x, y) => (x > y ? x : y))
  return Date.now() - Number(latest / 1_000_000n)
}

export function readConfigText(folder: AdapterFolder): string {
  const bytes = readSmall(folder, configFile, maxConfigBytes)
  return bytes === null ? invalid(`${configFile} is missing`) : decode(bytes, configFile)
}

/** null when there is none. */
export function readManifestText(folder: AdapterFolder): string | null {
  const bytes = readSmall(folder, manifestFile, maxManifestBytes)
  return bytes === null ? null : decode(bytes, manifestFile)
}

function decode(bytes: Buffer, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return invalid(`${name}: it is not UTF-8`)
  }
}

/** The open tensor file; the caller closes it. */
export async function openTensors(folder: AdapterFolder): Promise<FileHandle> {
  const path = fileInside(folder, tensorsFile)
  if (path === null) return refuseMissingTensors(folder)
  const handle = await open(path, openFlags).catch((error) => cannotOpen(tensorsFile, error))
  if ((await handle.stat()).isFile()) return handle
  await handle.close()
  return invalid(`${tensorsFile} is not a regular file`)
}

/** Fills the buffer from a position in the file; returns how many bytes there were. */
export async function readFully(
  handle: FileHandle,
  buffer: Buffer,
  position: number,
): Promise<number> {
  let done = 0
  while (done < buffer.length) {
    const want = Math.min(buffer.length - done, 16 << 20)
    const { bytesRead } = await handle.read(buffer, done, want, position + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done
}

// O_NONBLOCK: a named pipe must not hold a thread. O_NOFOLLOW: links were resolved before.
const openFlags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOFOLLOW ?? 0)

function readSmall(folder: AdapterFolder, name: string, maxBytes: number): Buffer | null {
  const path = fileInside(folder, name)
  if (path === null) return null
  const fd = openNow(path, name)
  try {
    const info = fstatSync(fd)
    if (!info.isFile()) invalid(`${name} is not a regular file`)
    if (info.size > maxBytes) invalid(`${name} has more than ${maxBytes} bytes`)
    return readFileSync(fd)
  } finally {
    closeSync(fd)
  }
}

function openNow(path: string, name: string): number {
  try {
    return openSync(path, openFlags)
  } catch (error) {
    return cannotOpen(name, error)
  }
}

function refuseMissingTensors({ path }: AdapterFolder): never {
  const pickle = pickles.find((name) => resolve(join(path, name)) !== null)
  if (pickle) {
    throw new ServerError(
      'unsupported_adapter',
      `${pickle}: pickle is not accepted; save the adapter as ${tensorsFile}.`,
    )
  }
  return invalid(`${tensorsFile} is missing`)
}

/** Where the file really is; null when it is missing. */
export function fileInside({ path, root }: AdapterFolder, name: string): string | null {
  const real = resolve(join(path, name))
  if (real !== null && !real.startsWith(root + sep)) refuseEscape(name)
  return real
}

function resolve(path: string): string | null {
  try {
    return realpathSync.native(path)
  } catch {
    return null
  }
}

function cannotOpen(name: string, error: unknown): never {
  return invalid(`${name} cannot be opened (${(error as NodeJS.ErrnoException).code})`)
}

function refuseEscape(what: string): never {
  return invalid(`${what} is a link to a place outside the adapters folder`)
}

function invalid(message: string): never {
  throw new ServerError('invalid_adapter', `${message}.`)
}
