// Makes what was written last through a loss of power: a file's bytes, and the names in a folder.

import { closeSync, fsyncSync, openSync } from 'node:fs'

export function flushFile(path: string): void {
  flush(path, 'r+')
}

/** A name lasts once its folder is written; Windows has no such call. */
export function flushFolder(path: string): void {
  if (process.platform !== 'win32') flush(path, 'r')
}

function flush(path: string, flags: string): void {
  const file = openSync(path, flags)
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}
