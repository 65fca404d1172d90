// Makes a folder and those above it.

import { mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'

/**
 * One folder at a time. Node's recursive mkdir never returns where the system answers ENOENT below a
 * folder that is there, as /proc does: it makes the parent, which exists, and tries again for ever.
 */
export function makeFolder(path: string): void {
  try {
    mkdirSync(path)
  } catch (error) {
    if (isFolder(path)) return
    const parent = dirname(path)
    const isParentMissing = (error as NodeJS.ErrnoException).code === 'ENOENT' && !isFolder(parent)
    if (!isParentMissing || parent === path) throw error
    makeFolder(parent)
    // Another process may make it meanwhile; its parent is there now, so this ends.
    makeFolder(path)
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}
