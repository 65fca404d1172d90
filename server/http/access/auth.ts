// Who may call. With --api-key set, every path but /health* needs `Authorization: Bearer <key>`:
// the scheme in any case, one or more spaces (RFC 9110). Paths are compared exactly as they came, so
// no spelling of a path ("//health", "/Health", "/health/") widens the exception. What a key may do is a
// matter of its roles.
//
// Not hono's bearerAuth: it answers a malformed header with 400, and its errors are not OpenAI's.

import { ServerError } from '../../errors.ts'
import { digestOf, type Key, mayDo, type Role } from '../../keys/key.ts'
import type { KeyRing } from '../../keys/key-ring.ts'

export const openPaths: ReadonlySet<string> = new Set(['/health', '/health/live', '/health/ready'])

function tokenOf(authorization: string | undefined): string | undefined {
  return /^bearer +([^\s]+)$/i.exec(authorization ?? '')?.[1]
}

interface Origin {
  readonly caller: Caller
  readonly address: string | undefined
  /** What --client-header holds; undefined where there is no such flag or header. */
  readonly forwarded: string | undefined
}

/** An address of any kind, or a user's id. */
const maxForwardedLength = 256

/**
 * Who is one client, for fairness: whom the proxy names, else who has the same key, or where none is
 * needed, the same address. None of them can be read from the name.
 */
export function clientName({ caller, address, forwarded }: Origin): string {
  const known = lastHop(forwarded) ?? caller.key?.name ?? address
  return digestOf(known ?? '')
    .toString('base64url')
    .slice(0, 16)
}

/**
 * The last item of a list: what the nearest proxy added. Those before it say what the client likes. A
 * port is none of the client's name.
 */
function lastHop(forwarded = ''): string | undefined {
  const item = forwarded.slice(forwarded.lastIndexOf(',') + 1).trim()
  if (item === '' || item.length > maxForwardedLength) return undefined
  return /^\[([0-9a-f:.]+)\](?::\d+)?$/i.exec(item)?.[1] ?? item.replace(/^([\d.]+):\d+$/, '$1')
}

/** Who calls, as far as the key tells. */
export interface Caller {
  /** null: none is needed, or the path is open. */
  readonly key: Key | null
}

export type Authenticate = (path: string, authorization: string | undefined) => Caller

export function createAuthenticate(ring: KeyRing): Authenticate {
  return function authenticate(path, authorization) {
    if (openPaths.has(path)) return { key: null }
    const token = tokenOf(authorization)
    const key = token === undefined ? null : ring.find(token)
    if (key !== null || !ring.isRequired) return { key }
    throw noKey(authorization !== undefined)
  }
}

const openRoles: readonly Role[] = ['inference', 'metrics']

/** Throws insufficient_permissions where the caller's key has not the role. */
export function requireRole(ring: KeyRing, { key }: Caller, role: Role): void {
  if (mayDo(key ?? { roles: openRoles }, role)) return
  if (key === null && ring.hasAdmin) throw noKey(false)
  throw new ServerError(
    'insufficient_permissions',
    key === null
      ? 'what is served may be changed by the role admin only; start the server with --admin-key or ' +
          'a --keys-file that has one'
      : `this needs the role ${role}; the key has ${key.roles.join(', ')}`,
  )
}

function noKey(wasGiven: boolean): ServerError {
  return new ServerError(
    'invalid_api_key',
    wasGiven
      ? 'the API key is not valid; send the header "Authorization: Bearer <key>"'
      : 'an API key is required; send the header "Authorization: Bearer <key>"',
    { headers: { 'www-authenticate': 'Bearer' } },
  )
}
