// Files and folders that are still there after a power cut, and what a disk's refusal is called.

import { open } from 'node:fs/promises'
import { ServerError } from './errors.ts'

const full = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

/** The error of a file operation for a client: never with a path. Other errors stay as they are. */
export function storageError(error: unknown): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException
  if (error instanceof ServerError || code === undefined || syscall === undefined) return error
  return full.has(code)
    ? new ServerError(
        'storage_full',
        'The disk of --adapters is full; nothing was changed. Free some of it and try again.',
        { cause: error },
      )
    : new ServerError(
        'storage_unavailable',
        `The folder of --adapters cannot be changed now (${code}); nothing was changed.`,
        { cause: error },
      )
}

/** Writes what the system holds of a file, or of a folder's entries, to the disk. */
export async function syncToDisk(path: string): Promise<void> {
  const handle = await open(path, 'r').catch((error) => {
    // Windows opens no folders.
    if (error.code === 'EISDIR' || error.code === 'EPERM') return null
    throw error
  })
  if (handle === null) return
  try {
    await handle.sync()
  } catch (error) {
    // Some file systems cannot sync folders.
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error
  } finally {
    await handle.close()
  }
}
