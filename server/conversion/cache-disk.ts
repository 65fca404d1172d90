// Whether the disk of the cache folder takes what is to be written, before and while it is written.

import { makeFolder } from '../checkpoint/make-folder.ts'
import { readableBytes } from '../contracts/bytes.ts'
import { ServerError } from '../errors.ts'

const remedy = 'free some space or name a folder on another disk with --cache-dir'

/** Whatever keeps the folder from being there is the operator's to change. */
export function makeCacheFolder(dir: string): void {
  try {
    makeFolder(dir)
  } catch (error) {
    throw notWritable(dir, error)
  }
}

/** Refuses before anything is written. */
export function requireSpace(dir: string, needed: number, free: number | null): void {
  if (free === null || free >= needed) return
  throw new ServerError(
    'invalid_config',
    `Converting the checkpoint needs ${readableBytes(needed)} in ${dir} and ${readableBytes(free)} are free there: ${remedy}.`,
  )
}

/** What an error of the file system means for the operator; other errors stay as they are. */
export function explainDiskError(error: unknown, dir: string, needed: number): unknown {
  const { code, path } = error as NodeJS.ErrnoException
  if (error instanceof ServerError || typeof code !== 'string') return error
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new ServerError(
      'invalid_config',
      `The disk of ${dir} filled up while the checkpoint was converted, which needs ${readableBytes(needed)}: ${remedy}.`,
      { cause: error },
    )
  }
  if (code === 'EMFILE' || code === 'ENFILE') {
    return new ServerError(
      'invalid_config',
      `There were no file handles left (${code}) while the cache ${dir} was read or written: raise ` +
        'the limit (ulimit -n) or end other programs.',
      { cause: error },
    )
  }
  if (code === 'EIO') {
    return new ServerError(
      'invalid_config',
      `The disk of ${dir} failed (EIO): look at it, or name a folder on another disk with --cache-dir.`,
      { cause: error },
    )
  }
  // A link in the cache that leads nowhere, or to itself.
  const isLost = ['ENOENT', 'ELOOP', 'EISDIR'].includes(code) && path?.startsWith(dir) === true
  if (isLost || ['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST'].includes(code)) {
    return notWritable(dir, error)
  }
  return error
}

function notWritable(dir: string, error: unknown): ServerError {
  const { code } = error as NodeJS.ErrnoException
  return new ServerError(
    'invalid_config',
    `--cache-dir must be a folder that can be written; ${dir} cannot (${code}).`,
    { cause: error },
  )
}
