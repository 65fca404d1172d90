// The folder that a client names: by a name or a path, and always inside the adapters folder, wherever
// links lead. Nothing is fetched, whatever the name looks like.

import { realpathSync, statSync } from 'node:fs'
import { basename, dirname, resolve, sep } from 'node:path'
import { privateFolder } from '../contracts/adapter.ts'
import { ServerError } from '../errors.ts'
import type { FolderSwap } from './folder-swap.ts'

/**
 * Where it really is. One that was unloaded is found where it stood. Throws model_not_found; what is
 * outside looks as if it were not there.
 */
export function findNamedFolder(root: string, name: string, swap: FolderSwap): string {
  if (name.includes('\0')) throw missing(name)
  const asked = resolve(root, name)
  const found = realFolder(asked)
  if (found !== null) {
    const isInside = found.startsWith(root + sep)
    const isOurs = found.startsWith(root + sep + privateFolder + sep)
    if (isInside && !isOurs) return found
    throw missing(name)
  }
  const unloaded = dirname(asked) === root ? realFolder(swap.unloadedPathOf(basename(asked))) : null
  if (unloaded === null) throw missing(name)
  return unloaded
}

function realFolder(path: string): string | null {
  try {
    const real = realpathSync.native(path)
    return statSync(real).isDirectory() ? real : null
  } catch {
    return null
  }
}

function missing(name: string): ServerError {
  return new ServerError(
    'model_not_found',
    `There is no folder ${JSON.stringify(name.slice(0, 64))} in --adapters. Nothing is fetched: put ` +
      'it there, or upload its files.',
    { param: 'name' },
  )
}
