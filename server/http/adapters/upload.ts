// The files of an adapter as multipart/form-data, written to the disk while they come: at no time more than
// a few pieces are in memory. Whatever goes wrong, all writing has ended when the error is thrown.

import { createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { Busboy, type BusboyInstance } from '@fastify/busboy'
import { adapterFiles } from '../../contracts/adapter.ts'
import { storageError, syncToDisk } from '../../durable.ts'
import { ServerError } from '../../errors.ts'
import { ClientGone } from '../request/body-bytes.ts'
import { quote } from '../request/quote.ts'

export interface UploadOptions {
  readonly contentType: string
  /** Empty, and nobody else's. */
  readonly folder: string
  /** Of the whole body. */
  readonly maxBytes: number
  /** Told of each piece. */
  readonly onBytes?: (bytes: number) => void
}

const limits = { parts: 16, fields: 8, fieldNameSize: 64, fieldSize: 256, headerPairs: 16 }
const names: ReadonlySet<string> = new Set(Object.values(adapterFiles))
const { config, tensors, manifest } = adapterFiles
const maxFileBytes: Readonly<Record<string, number>> = { [config]: 1_000_000, [manifest]: 128_000 }

/** The fields beside the files. The files lie in the folder, synced, under their own names. */
export async function receiveUpload(
  source: Readable,
  { contentType, folder, maxBytes, onBytes = () => {} }: UploadOptions,
): Promise<ReadonlyMap<string, string>> {
  const parser = openParser(contentType)
  const stop = new AbortController()
  const fields = new Map<string, string>()
  const files = new Map<string, Promise<void>>()
  try {
    await new Promise<void>((resolve, reject) => {
      stop.signal.addEventListener('abort', () => reject(stop.signal.reason))
      const fail = (error: unknown) => stop.abort(error)
      parser
        .on('field', (name, value, isNameCut, isCut) => {
          if (isNameCut || isCut || fields.has(name)) fail(refuseField(name))
          fields.set(name, value)
        })
        .on('file', (field, stream, fileName) => {
          // What is not taken must be read all the same, or the parser waits.
          stream.on('error', () => {})
          const name = nameOf(field, fileName)
          const refusal = refuseFile(name, files)
          if (refusal !== null) {
            stream.resume()
            return fail(refusal)
          }
          const writing = write(stream, join(folder, name), maxFileBytes[name], stop.signal)
          files.set(name, writing)
          writing.catch(fail)
        })
        .on('partsLimit', () => fail(malformed('it has too many parts')))
        .on('fieldsLimit', () => fail(malformed('it has too many fields')))
        .on('error', () => fail(malformed('it is not complete, or not multipart')))
        .on('finish', resolve)
      feed(source, parser, { maxBytes, onBytes, stop })
    })
    await Promise.all(files.values())
    await syncToDisk(folder)
    return fields
  } catch (error) {
    stop.abort(error)
    await Promise.allSettled(files.values())
    const refusal = storageError(error)
    const isRead = refusal instanceof ServerError && refusal.code !== 'request_too_large'
    if (isRead) await discard(source, maxBytes)
    throw refusal
  }
}

/** The body, from the socket where it came over one. */
export function sourceOf(request: Request, incoming: Readable | undefined): Readable {
  // Not a look at `body` before: it would make a stream of its own that reads the same socket.
  if (incoming !== undefined) return incoming
  const { body } = request
  return body === null ? Readable.from([]) : Readable.fromWeb(body as ReadableStream)
}

/** Hands pieces on as fast as they are written. Once it is stopped, the rest stays unread. */
function feed(
  source: Readable,
  parser: BusboyInstance,
  {
    maxBytes,
    onBytes,
    stop,
  }: {
    readonly maxBytes: number
    readonly onBytes: (bytes: number) => void
    readonly stop: AbortController
  },
): void {
  let numBytes = 0
  function onData(piece: Uint8Array): void {
    numBytes += piece.length
    onBytes(piece.length)
    if (numBytes > maxBytes) stop.abort(tooLarge(maxBytes))
    else if (!parser.write(piece)) rest()
  }
  function rest(): void {
    source.pause()
    parser.once('drain', () => {
      if (!stop.signal.aborted) source.resume()
    })
  }
  const onEnd = () => parser.end()
  const onGone = () => {
    if (!source.readableEnded) stop.abort(new ClientGone('the upload broke off'))
  }
  stop.signal.addEventListener('abort', () => {
    source.off('data', onData).off('end', onEnd).pause()
  })
  if (source.destroyed) onGone()
  source.on('error', onGone).on('close', onGone).on('end', onEnd).on('data', onData)
}

/** Reads the rest, within the limit: most clients read no answer before they have sent all. */
function discard(source: Readable, maxBytes: number): Promise<void> {
  let numBytes = 0
  return new Promise((resolve) => {
    const end = () => resolve()
    if (source.readableEnded || source.destroyed) end()
    source
      .on('end', end)
      .on('close', end)
      .on('data', (piece: Uint8Array) => {
        numBytes += piece.length
        if (numBytes <= maxBytes) return
        source.pause()
        end()
      })
    source.resume()
  })
}

async function write(
  stream: Readable,
  path: string,
  maxBytes: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  async function* bounded(pieces: AsyncIterable<Uint8Array>) {
    let numBytes = 0
    for await (const piece of pieces) {
      numBytes += piece.length
      if (numBytes > (maxBytes ?? Number.POSITIVE_INFINITY)) throw tooLong(path, maxBytes)
      yield piece
    }
  }
  const file = createWriteStream(path, { flags: 'wx', flush: true })
  await pipeline(stream, bounded, file, { signal }).catch((error) => {
    // An end that others brought about has their reason.
    throw signal.aborted ? signal.reason : error
  })
}

function openParser(contentType: string): BusboyInstance {
  try {
    return new Busboy({ headers: { 'content-type': contentType }, limits })
  } catch {
    throw malformed('its Content-Type names no boundary')
  }
}

/** Browsers call a file "blob": the field's name counts, where it is one of ours. */
function nameOf(field: string, fileName: string | undefined): string {
  return names.has(field) ? field : (fileName ?? field)
}

function refuseFile(name: string, files: ReadonlyMap<string, unknown>): ServerError | null {
  if (/\.(bin|pt|pth|pkl|pickle|ckpt)$/i.test(name)) {
    return new ServerError(
      'unsupported_adapter',
      `${quote(name)}: pickle is not accepted; save the adapter as ${tensors}`,
    )
  }
  if (!names.has(name)) {
    return new ServerError(
      'invalid_adapter',
      `an upload has ${config}, ${tensors} and perhaps ${manifest}, each a part of its own, and no ` +
        `archive; got ${quote(name)}`,
    )
  }
  return files.has(name) ? malformed(`it has ${name} twice`) : null
}

function refuseField(name: string): ServerError {
  return malformed(`its field ${quote(name)} is too long, or there twice`)
}

function malformed(why: string): ServerError {
  return new ServerError('invalid_request', `the multipart body cannot be used: ${why}`)
}

function tooLong(path: string, maxBytes: number | undefined): ServerError {
  const name = [...names].find((known) => path.endsWith(known))
  return new ServerError('invalid_adapter', `${name} has more than ${maxBytes} bytes`)
}

export function tooLarge(maxBytes: number): ServerError {
  return new ServerError(
    'request_too_large',
    `an upload must be ≤ ${maxBytes} bytes (--max-upload); send less`,
  )
}
