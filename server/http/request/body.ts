// Reads a JSON object from a request body: bounded while it streams, decoded strictly, and refused
// before it is parsed where parsing would take long.

import { isObject, type JsonObject } from '../../contracts/json.ts'
import { ServerError } from '../../errors.ts'
import { type Incoming, readBytes } from './body-bytes.ts'
import { checkShape } from './body-shape.ts'
import { quote } from './quote.ts'

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

export interface BodyOptions {
  readonly maxBytes: number
  /** Where the request came over a socket. */
  readonly incoming: Incoming | undefined
  /** Lets others have the event loop where this one had it long. */
  readonly rest: () => Promise<void> | undefined
}

export async function readJsonObject(
  request: Request,
  { maxBytes, incoming, rest }: BodyOptions,
): Promise<JsonObject> {
  checkHeaders(request.headers)
  const bytes = await readBytes(request, maxBytes, incoming)
  if (bytes.length === 0) throw new ServerError('invalid_json', 'the body is empty; send JSON')
  await checkShape(bytes, rest)
  let body: unknown
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    await rest()
    body = JSON.parse(text)
    await rest()
  } catch (error) {
    const reason = error instanceof SyntaxError ? 'is not valid JSON' : 'is not valid UTF-8'
    throw new ServerError('invalid_json', `the body ${reason}`, { cause: error })
  }
  if (!isObject(body)) {
    throw new ServerError('invalid_request', `the body must be a JSON object; got ${quote(body)}`)
  }
  return body
}
