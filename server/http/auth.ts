// Who may call. With --api-key set, every path but /health* needs `Authorization: Bearer <key>`:
// the scheme in any case, one or more spaces (RFC 9110). Paths are compared exactly as they came, so
// no spelling of a path ("//health", "/Health", "/health/") widens the exception.
//
// Not hono's bearerAuth: it answers a malformed header with 400, and its errors are not OpenAI's.

import { createHash, timingSafeEqual } from 'node:crypto'
import { ServerError } from '../errors.ts'

export const openPaths: ReadonlySet<string> = new Set(['/health', '/health/live', '/health/ready'])

function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}

function tokenOf(authorization: string | undefined): string | undefined {
  return /^bearer +([^\s]+)$/i.exec(authorization ?? '')?.[1]
}

/**
 * Who is one client, for fairness: who has the same key, or where none is needed, the same address.
 * Neither can be read from the name.
 */
export function clientName(
  keys: readonly string[] | null,
  { authorization, address }: { authorization: string | undefined; address: string | undefined },
): string {
  const known = keys === null ? address : tokenOf(authorization)
  return digest(known ?? '')
    .toString('base64url')
    .slice(0, 16)
}

export type Authenticate = (path: string, authorization: string | undefined) => void

/** Compares the digests of all keys each time, so that timing leaks neither length nor prefix. */
export function createAuthenticate(keys: readonly string[] | null): Authenticate {
  if (keys === null) return () => {}
  const known = keys.map(digest)
  return function authenticate(path, authorization) {
    if (openPaths.has(path)) return
    const token = tokenOf(authorization)
    const given = digest(token ?? '')
    const matches = known.filter((key) => timingSafeEqual(key, given)).length
    if (token !== undefined && matches > 0) return
    throw new ServerError(
      'invalid_api_key',
      authorization === undefined
        ? 'an API key is required; send the header "Authorization: Bearer <key>"'
        : 'the API key is not valid; send the header "Authorization: Bearer <key>"',
      { headers: { 'www-authenticate': 'Bearer' } },
    )
  }
}
