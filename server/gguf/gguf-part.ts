// One GGUF file on the disk with its header; a split checkpoint has several.

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { basename } from 'node:path'
import { type ErrorCode, ServerError } from '../errors.ts'
import { type GgufHeader, readHeader } from './gguf-header.ts'
import { createHeaderCursor, type Fail, type ReadAt } from './header-cursor.ts'

export interface GgufPart {
  readonly path: string
  readonly header: GgufHeader
  readonly readAt: ReadAt
  close(): void
}

// fs.readSync takes at most 2^31 − 1 bytes.
const maxReadBytes = 1 << 30

export function openPart(path: string): GgufPart {
  const broken = failAs('invalid_checkpoint', path)
  const fd = openFile(path, broken)
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) broken('it is not a regular file')
    const readAt: ReadAt = (target, position) => {
      let done = 0
      while (done < target.length) {
        const want = Math.min(target.length - done, maxReadBytes)
        const got = readSync(fd, target, done, want, position + done)
        if (got === 0) broken('the file became shorter while it was read')
        done += got
      }
    }
    const cursor = createHeaderCursor(readAt, stat.size, broken)
    const unsupported = failAs('unsupported_checkpoint', path)
    const header = readHeader(cursor, stat.size, { broken, unsupported })
    return { path, header, readAt, close: () => closeSync(fd) }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

export function failAs(code: ErrorCode, path: string): Fail {
  return function fail(message) {
    throw new ServerError(code, `${basename(path)}: ${message}.`)
  }
}

function openFile(path: string, fail: Fail): number {
  try {
    // O_NONBLOCK: a named pipe must not hold the process.
    return openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
  } catch (error) {
    return fail(`it cannot be opened (${(error as NodeJS.ErrnoException).code})`)
  }
}
