// Reads a JSON object from a request body: bounded while it streams, decoded strictly, never deep.
//
// Not hono's bodyLimit: it takes the length header's word and copies the body into a second Request.

import { isObject, type JsonObject } from '../../contracts/json.ts'
import { ServerError } from '../../errors.ts'
import { quote } from './quote.ts'

const maxDepth = 64

function tooLarge(maxBytes: number) {
  return new ServerError(
    'request_too_large',
    `the body must be ≤ ${maxBytes} bytes (--max-body); send less`,
  )
}

/** The body's bytes in one buffer; chunks may have any size. */
async function readBytes(request: Request, maxBytes: number): Promise<Uint8Array> {
  const declared = request.headers.get('content-length')
  if (declared !== null && Number(declared) > maxBytes) throw tooLarge(maxBytes)
  if (request.body === null) return new Uint8Array()
  // Grows by doubling: a megabyte in one-byte chunks must not become a million buffers.
  let buffer = new Uint8Array(Math.min(maxBytes, Number(declared ?? 0) || 4096))
  let length = 0
  const reader = request.body.getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return buffer.subarray(0, length)
    if (length + value.length > maxBytes) {
      // The rest stays unread; the connection closes after the answer.
      reader.releaseLock()
      throw tooLarge(maxBytes)
    }
    if (length + value.length > buffer.length) {
      const grown = new Uint8Array(Math.min(maxBytes, 2 * (length + value.length)))
      grown.set(buffer.subarray(0, length))
      buffer = grown
    }
    buffer.set(value, length)
    length += value.length
  }
}

function checkHeaders(headers: Headers): void {
  const encoding = headers.get('content-encoding')
  if (encoding !== null && encoding.toLowerCase() !== 'identity') {
    throw new ServerError(
      'unsupported_media_type',
      `Content-Encoding must be absent; got ${quote(encoding)}`,
    )
  }
  const type = headers.get('content-type')
  if (type?.split(';', 1)[0]?.trim().toLowerCase() === 'application/json') return
  throw new ServerError(
    'unsupported_media_type',
    `Content-Type must be application/json; got ${type === null ? 'none' : quote(type)}`,
  )
}

/** Walks without recursion, so that depth costs no stack. */
function isTooDeep(root: object): boolean {
  let level: object[] = [root]
  for (let depth = 0; depth < maxDepth; depth++) {
    const next: object[] = []
    for (const node of level) {
      for (const child of Array.isArray(node) ? node : Object.values(node)) {
        if (typeof child === 'object' && child !== null) next.push(child)
      }
    }
    if (next.length === 0) return false
    level = next
  }
  return true
}

export async function readJsonObject(request: Request, maxBytes: number): Promise<JsonObject> {
  checkHeaders(request.headers)
  const bytes = await readBytes(request, maxBytes)
  if (bytes.length === 0) throw new ServerError('invalid_json', 'the body is empty; send JSON')
  let body: unknown
  try {
    body = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    const reason = error instanceof SyntaxError ? 'is not valid JSON' : 'is not valid UTF-8'
    throw new ServerError('invalid_json', `the body ${reason}`, { cause: error })
  }
  if (!isObject(body)) {
    throw new ServerError('invalid_request', `the body must be a JSON object; got ${quote(body)}`)
  }
  if (isTooDeep(body)) {
    throw new ServerError('invalid_json', `the body must nest at most ${maxDepth} levels deep`)
  }
  return body
}
