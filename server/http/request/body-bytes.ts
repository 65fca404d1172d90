// The bytes of a request body, bounded while they come. Over a socket they are taken from Node's own
// stream: a web stream costs promises for each piece, and a body may come in a million pieces.
//
// Not hono's bodyLimit: it takes the length header's word and copies the body into a second Request.

import { ServerError } from '../../errors.ts'

/** The part of Node's IncomingMessage that is read here. */
export interface Incoming {
  readonly readableEnded: boolean
  readonly destroyed: boolean
  on(event: 'data', listener: (piece: Uint8Array) => void): unknown
  on(event: 'end' | 'close' | 'error', listener: () => void): unknown
  off(event: 'data', listener: (piece: Uint8Array) => void): unknown
  off(event: 'end' | 'close' | 'error', listener: () => void): unknown
  pause(): unknown
}

/** The client left, or broke off, before its request was whole. Nobody reads an answer. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone'
}

/** Beyond so many pieces they must have some size: each costs, however small. */
const maxSmallPieces = 100_000
const smallPiece = 32

/** The body's bytes in one buffer; `incoming` where the request came over a socket. */
export function readBytes(
  request: Request,
  maxBytes: number,
  incoming?: Incoming,
): Promise<Uint8Array> {
  const declared = Number(request.headers.get('content-length') ?? 0)
  const gathered = gather(maxBytes, declared)
  if (declared > maxBytes) return Promise.reject(gathered.tooLarge())
  return incoming === undefined ? readWeb(request, gathered) : readNode(incoming, gathered)
}

type Gathered = ReturnType<typeof gather>

/** Grows by doubling: a megabyte in one-byte pieces must not become a million buffers. */
function gather(maxBytes: number, declared: number) {
  let buffer = new Uint8Array(Math.min(maxBytes, declared || 4096))
  let length = 0
  let numPieces = 0

  function tooLarge(): ServerError {
    return new ServerError(
      'request_too_large',
      `the body must be ≤ ${maxBytes} bytes (--max-body); send less`,
    )
  }

  return {
    tooLarge,
    /** Throws where the body goes over a bound. */
    add(piece: Uint8Array): void {
      if (length + piece.length > maxBytes) throw tooLarge()
      if (++numPieces > maxSmallPieces && length < numPieces * smallPiece) {
        throw new ServerError(
          'request_too_large',
          `the body may come in ${maxSmallPieces} pieces of under ${smallPiece} bytes; send larger ones`,
        )
      }
      if (length + piece.length > buffer.length) {
        const grown = new Uint8Array(Math.min(maxBytes, 2 * (length + piece.length)))
        grown.set(buffer.subarray(0, length))
        buffer = grown
      }
      buffer.set(piece, length)
      length += piece.length
    },
    bytes: () => buffer.subarray(0, length),
  }
}

function readNode(incoming: Incoming, gathered: Gathered): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    function settle(outcome: () => void): void {
      incoming.off('data', onData)
      incoming.off('end', onEnd)
      incoming.off('close', onGone)
      incoming.off('error', onGone)
      outcome()
    }
    function onData(piece: Uint8Array): void {
      try {
        gathered.add(piece)
      } catch (error) {
        // The rest stays unread; the connection closes after the answer.
        incoming.pause()
        settle(() => reject(error))
      }
    }
    const onEnd = () => settle(() => resolve(gathered.bytes()))
    const onGone = () => settle(() => reject(new ClientGone('the body broke off')))
    if (incoming.readableEnded) return resolve(gathered.bytes())
    if (incoming.destroyed) return reject(new ClientGone('the connection is closed'))
    incoming.on('end', onEnd)
    incoming.on('close', onGone)
    incoming.on('error', onGone)
    incoming.on('data', onData)
  })
}

async function readWeb(request: Request, gathered: Gathered): Promise<Uint8Array> {
  if (request.body === null) return gathered.bytes()
  const reader = request.body.getReader()
  for (;;) {
    const { done, value } = await reader.read().catch((cause) => {
      throw new ClientGone('the body broke off', { cause })
    })
    if (done) return gathered.bytes()
    try {
      gathered.add(value)
    } catch (error) {
      reader.releaseLock()
      throw error
    }
  }
}
