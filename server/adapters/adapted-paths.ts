// Which modules the file of an adapter names, at the cost of a look: its header is searched, not
// parsed and not checked. What it says is a hint; whoever reads the adapter checks all of it.

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { readHeaderLength } from '../checkpoint/safetensors-header.ts'
import { type AdapterFolder, fileInside, tensorsFile } from './adapter-folder.ts'

/** A thousand layers with every module take 2 MB. */
const maxLookedAt = 2_000_000
const pathPattern = /(model\.layers\.\d{1,5}\.(?:self_attn|mlp)\.[a-z_]{1,16})\.lora_A\.weight"/g

/** "model.layers.3.mlp.up_proj" of every module; null where there is no such file to look at. */
export function readAdaptedPaths(folder: AdapterFolder): ReadonlySet<string> | null {
  try {
    const path = fileInside(folder, tensorsFile)
    if (path === null) return null
    return new Set([...readHeaderText(path).matchAll(pathPattern)].map((match) => match[1]!))
  } catch {
    return null
  }
}

function readHeaderText(path: string): string {
  // O_NONBLOCK: a named pipe must not hold the process.
  const fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
  try {
    const info = fstatSync(fd)
    if (!info.isFile()) refuse('it is not a regular file')
    const prefix = Buffer.alloc(8)
    readSync(fd, prefix, 0, 8, 0)
    const length = readHeaderLength(prefix, info.size, refuse)
    if (length > maxLookedAt) refuse('its header is too long')
    const header = Buffer.alloc(length)
    return header.toString('latin1', 0, readSync(fd, header, 0, length, 8))
  } finally {
    closeSync(fd)
  }
}

function refuse(why: string): never {
  throw new Error(why)
}
