// Which pages and which host names may reach the server: CORS for --cors-origins, and the Host header
// against DNS rebinding. Only the name in Host counts: a rebound name is wrong whatever its port, and
// a forwarded port (ssh -L, docker -p) is right whatever its number.
//
// Not hono's cors: it answers a refused preflight with 204, this one with 403 and the remedy, and Vary
// is said for * too.

import { ServerError } from '../../errors.ts'

const loopback = ['localhost', '127.0.0.1', '::1']
const anyAddress = new Set(['0.0.0.0', '::', ''])

/** "example.com:80" → "example.com", "[::1]:80" → "::1". */
function hostName(host: string): string {
  const [, name = host] = /^\[([^\]]*)\](?::\d*)?$/.exec(host) ?? /^([^:]*):\d*$/.exec(host) ?? []
  return name.toLowerCase()
}

export type CheckHost = (host: string) => void

export function createCheckHost(options: {
  readonly bound: string
  readonly allowed: readonly string[] | null
}): CheckHost {
  if (options.allowed?.includes('*')) return () => {}
  if (options.allowed === null && anyAddress.has(options.bound)) return () => {}
  const names = new Set([options.bound, ...loopback, ...(options.allowed ?? [])].map(hostName))
  return function checkHost(host) {
    if (names.has(hostName(host))) return
    throw new ServerError(
      'host_not_allowed',
      'the Host header names a host this server does not answer for; add it to --allowed-hosts',
    )
  }
}

const exposedHeaders = 'x-request-id, x-adapter, x-merged, x-dutyfree-ignored, retry-after'

export interface Cors {
  /** Headers for a response to `origin`; empty when it is not allowed. */
  headers(origin: string | undefined): Record<string, string>
  /** The answer to a true preflight; undefined when the request is none. */
  preflight(request: Request): Response | undefined
}

export function createCors(origins: readonly string[] | null): Cors {
  const allows = (origin: string) => origins?.includes('*') || origins?.includes(origin) || false

  function headers(origin: string | undefined): Record<string, string> {
    if (origins === null) return {}
    if (origin === undefined || !allows(origin)) return { vary: 'origin' }
    return {
      'access-control-allow-origin': origin,
      'access-control-expose-headers': exposedHeaders,
      vary: 'origin',
    }
  }

  return {
    headers,
    preflight(request) {
      const origin = request.headers.get('origin')
      const method = request.headers.get('access-control-request-method')
      if (origins === null || request.method !== 'OPTIONS' || !origin || !method) return undefined
      if (!allows(origin)) {
        throw new ServerError(
          'origin_not_allowed',
          'this origin may not call the server; add it to --cors-origins',
        )
      }
      return new Response(null, {
        status: 204,
        headers: {
          ...headers(origin),
          'access-control-allow-methods': 'GET, POST, DELETE',
          'access-control-allow-headers':
            request.headers.get('access-control-request-headers') ?? 'authorization, content-type',
          'access-control-max-age': '600',
        },
      })
    },
  }
}
