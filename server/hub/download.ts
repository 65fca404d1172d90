// One file from the hub to its place, whole and checked, or not at all. What came before a broken
// connection or a killed process is kept beside it and continued.
//
// The half file is named after its content's digest (without one: after commit and name), so what
// changed on the hub has another half file and is begun anew. An If-Range would not do: behind the
// redirect stands a CDN whose ETags are its own. Bytes are written at the place they belong to, never
// appended: two servers that download into one cache write the same bytes twice, and that is all.

import { createHash } from 'node:crypto'
import { constants, createReadStream } from 'node:fs'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { makeFolder } from '../checkpoint/make-folder.ts'
import { ServerError } from '../errors.ts'
import { sizeOf } from './cache.ts'
import { HubFailure } from './failure.ts'
import type { HubFetch } from './hub-fetch.ts'
import type { RepoFile } from './repo.ts'
import type { Retry } from './retries.ts'

export interface DownloadOptions {
  readonly url: string
  readonly file: RepoFile
  /** Where the file goes. */
  readonly path: string
  readonly fetch: HubFetch
  readonly retry: Retry
  readonly signal: AbortSignal
  /** Told how much of the file is there. */
  readonly onBytes?: (bytes: number) => void
  /** A connection that gives nothing for so long is dropped. */
  readonly stallMs?: number
}

/** Not the file that the hub's listing promised. */
class WrongContent extends Error {}

export function halfPath(path: string): string {
  return `${path}.dutyfree.incomplete`
}

/** Rejects with ServerError when the hub sends the wrong bytes twice. */
export async function downloadFile(options: DownloadOptions): Promise<void> {
  const { file, path, retry, signal } = options
  const half = halfPath(path)
  makeFolder(dirname(path))
  for (let round = 1; ; round++) {
    try {
      await retry(file.name, (onProgress) => fetchRest(options, half, onProgress))
      await check(half, file, signal)
      await publish(half, path)
      return
    } catch (error) {
      const isWrong = error instanceof WrongContent
      if (!isWrong && (error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      // Another server was quicker and took the half file away under its final name.
      if ((await sizeOf(path)) === file.size) return
      if (!isWrong) throw error
      // Kept bytes may be what is wrong: once more from the first byte.
      await rm(half, { force: true })
      if (round === 1) continue
      throw new ServerError(
        'download_failed',
        `${file.name}: ${error.message}, twice; nothing of it is kept. Try again later, or check HF_ENDPOINT and what stands between`,
      )
    }
  }
}

async function fetchRest(
  { url, file, fetch, onBytes, stallMs = 30_000 }: DownloadOptions,
  half: string,
  onProgress: () => void,
): Promise<void> {
  const handle = await open(half, constants.O_RDWR | constants.O_CREAT)
  const stalled = new AbortController()
  const timer = setTimeout(
    () => stalled.abort(new DOMException('stalled', 'TimeoutError')),
    stallMs,
  )
  try {
    const kept = (await handle.stat()).size
    if (kept > file.size) throw new WrongContent('more bytes are kept than the file has')
    onBytes?.(kept)
    if (kept === file.size) return
    // With a range, fetch asks for the bytes themselves, not for a compressed form.
    const headers = { range: `bytes=${kept}-` }
    const response = await fetch(url, { headers, signal: stalled.signal }).catch((error) => {
      if (error instanceof HubFailure && error.status === 416) {
        throw new WrongContent('the hub has fewer bytes than it lists')
      }
      throw error
    })
    let position = firstByte(response, kept, file.size)
    for await (const chunk of response.body ?? []) {
      timer.refresh()
      if (position + chunk.length > file.size) {
        throw new WrongContent(`more than the ${file.size} bytes that the hub lists came`)
      }
      await writeAll(handle, chunk, position)
      position += chunk.length
      onBytes?.(position)
      // Bytes that were here already are no progress: a hub without ranges that always breaks off
      // at the same place must not be asked for ever.
      if (position > kept) onProgress()
    }
    if (position < file.size) throw new HubFailure({ status: null, reason: 'ended early' })
  } finally {
    clearTimeout(timer)
    await handle.close()
  }
}

/** Where the answer's first byte belongs. A hub that ignores the range begins at 0. */
function firstByte({ status, headers }: Response, kept: number, size: number): number {
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get('content-range') ?? '')
  const length = headers.has('content-encoding') ? null : headers.get('content-length')
  const [, first, total] = status === 206 ? (range ?? []) : ['', '0', length ?? '*']
  if (first === undefined || Number(first) > kept) {
    throw new WrongContent('another range came than the one asked for')
  }
  if (total !== '*' && Number(total) !== size) {
    throw new WrongContent(`the file has ${total} bytes where the hub lists ${size}`)
  }
  return Number(first)
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}

/** Reads the bytes already on disk; another process may have written them. */
async function check(half: string, { size, digest }: RepoFile, signal: AbortSignal): Promise<void> {
  if ((await sizeOf(half)) !== size) throw new WrongContent(`it is not ${size} bytes long`)
  if (digest.kind === 'none') return
  const hash = createHash(digest.kind === 'sha256' ? 'sha256' : 'sha1')
  if (digest.kind === 'git-blob') hash.update(`blob ${size}\0`)
  const bytes = createReadStream(half, { highWaterMark: 1 << 20, signal })
  for await (const chunk of bytes) hash.update(chunk)
  if (hash.digest('hex') !== digest.hex) {
    throw new WrongContent(`its ${digest.kind} checksum is not the one that the hub lists`)
  }
}

async function publish(half: string, path: string): Promise<void> {
  // The bytes before the name: a power cut must not leave a good name on an empty file.
  const handle = await open(half, 'r+')
  await handle.datasync().finally(() => handle.close())
  await rename(half, path)
}
