// The application as a pure function from Request to Response: gates, routes, and one log line and one
// measurement for each request. Sockets are in server.ts.

import { randomUUID } from 'node:crypto'
import { Hono } from 'hono'
import { routePath } from 'hono/route'
import type { FetchAdapter } from '../contracts/adapter.ts'
import type { EngineClient } from '../contracts/engine.ts'
import type { Logger } from '../contracts/logger.ts'
import type { Observer } from '../contracts/observer.ts'
import { escapeUnprinted } from '../contracts/printable.ts'
import { ServerError } from '../errors.ts'
import { createKeyLimits } from '../keys/key-limits.ts'
import { createKeyRing } from '../keys/key-ring.ts'
import { createAuthenticate, openPaths, requireRole } from './access/auth.ts'
import { createCheckHost, createCors } from './access/origin.ts'
import { adapterRoutes } from './adapter-routes.ts'
import { createAdapterList } from './adapters/adapter-list.ts'
import { type Admission, createAdmission } from './admission.ts'
import { completionRoutes } from './completion-routes.ts'
import {
  type Clock,
  defaultStreamLimits,
  type HttpConfig,
  incomingOf,
  type RequestContext,
  type RequestVariables,
  type Route,
  type Services,
  type StreamLimits,
  systemClock,
} from './context.ts'
import { errorOnPath, toServerError } from './error-response.ts'
import { defaultAdminHost, splitRoutes } from './listeners.ts'
import { mergeRoutes } from './merge-routes.ts'
import { modelRoutes } from './model-routes.ts'
import { moderationRoutes } from './moderation-routes.ts'
import { type MetricsPage, operationRoutes } from './operation-routes.ts'
import { adapterHeader } from './reply/applied-adapters.ts'
import { ClientGone } from './request/body-bytes.ts'
import { unsupportedRoutes } from './request/unsupported-routes.ts'
import { tokenizeRoutes } from './tokenize-routes.ts'
import { clientGone } from './wire/client-fault.ts'

export interface AppOptions {
  readonly engine: EngineClient
  readonly config: HttpConfig
  readonly observer: Observer
  readonly logger: Logger
  readonly metrics: MetricsPage
  readonly version: string
  readonly clock?: Clock
  readonly streamLimits?: StreamLimits
  readonly fetchAdapter?: FetchAdapter | null
}

type HonoApp = Hono<{ Variables: RequestVariables }>

export interface App {
  /** What the public listener answers. */
  readonly hono: HonoApp
  /** What --admin-port answers; null: there is none, and the public one answers all. */
  readonly admin: HonoApp | null
  readonly routes: readonly Route[]
  readonly admission: Admission
  /** Books what was refused before it was a request. */
  onRefused(status: number, reason: string): void
}

export function createApp(options: AppOptions): App {
  const { engine, config, observer, logger, clock = systemClock } = options
  const admission = createAdmission({
    maxRunning: config.maxBatch,
    maxWaiting: config.maxQueue,
    monotonicMs: clock.monotonicMs,
  })
  const services: Services = {
    engine,
    config,
    observer,
    logger,
    clock,
    admission,
    adapters: createAdapterList({ engine, monotonicMs: clock.monotonicMs }),
    keys: createKeyRing({
      apiKeys: config.apiKey,
      adminKey: config.adminKey,
      keysOfFile: config.keysOfFile,
    }),
    keyLimits: createKeyLimits(clock.monotonicMs),
    streamLimits: options.streamLimits ?? defaultStreamLimits,
    fetchAdapter: options.fetchAdapter ?? null,
  }
  const all: readonly Route[] = [
    ...completionRoutes(services),
    // Before the routes of one adapter, whose name these might be.
    ...mergeRoutes(services),
    ...modelRoutes(services),
    ...adapterRoutes(services),
    ...tokenizeRoutes(services),
    ...moderationRoutes(services),
    ...operationRoutes(services, { ...options, routes: () => routes }),
  ]
  const { routes, admin: adminRoutes } = splitRoutes(all, config)
  const others = all.filter((route) => !routes.includes(route))
  const hono = createListener(services, { bound: config.host, routes, others })
  const admin =
    adminRoutes === null
      ? null
      : createListener(services, {
          bound: config.adminHost ?? defaultAdminHost,
          routes: adminRoutes,
          others: all.filter((route) => !adminRoutes.includes(route)),
        })

  function onRefused(status: number, reason: string) {
    const [route, method] = ['unmatched', 'other']
    observer.httpResponse({ route, method, status, seconds: 0 })
    logger.info({ route, method, status, reason }, 'request')
  }

  return { hono, admin, routes, admission, onRefused }
}

/** What one listener answers. */
function createListener(
  services: Services,
  listener: {
    /** Its address. */
    readonly bound: string
    readonly routes: readonly Route[]
    /** Those of the other listener. */
    readonly others: readonly Route[]
  },
): HonoApp {
  const { logger, observer } = services
  const { bound, routes, others } = listener
  const hono: HonoApp = new Hono()
  hono.use(requestFrame(services))
  hono.use(gates(services, bound))
  for (const route of others) hono.on(route.method, route.path, isElsewhere)
  for (const [path, ofPath] of groupByPath(routes)) {
    for (const route of ofPath) hono.on(route.method, path, permitted(services, route))
    hono.all(path, methodNotAllowed(ofPath))
  }
  for (const [pattern, refuse] of unsupportedRoutes()) hono.all(pattern, refuse)
  hono.notFound((context) => {
    throw new ServerError('not_found', `no route ${context.req.method} at this path`)
  })
  hono.onError((error, context) => {
    if (!(error instanceof ClientGone)) {
      const requestId = context.get('requestId')
      return errorOnPath(toServerError(error, logger, requestId), context.req.path, requestId)
    }
    observer.clientDisconnected('before_response')
    return clientGone(incomingOf(context)?.socket)
  })
  return hono
}

/** As if it were not there, whoever asks; the message is for who has the wrong port. */
function isElsewhere(): never {
  throw new ServerError(
    'not_found',
    'this is not answered at this port; the server has one for changes and one for all else (--admin-port)',
  )
}

/** The route's handler, for those whose key has its role. */
function permitted(
  { keys }: Services,
  { role = 'inference', path, handle }: Route,
): Route['handle'] {
  return (context) => {
    context.set('route', path)
    if (!openPaths.has(context.req.path)) requireRole(keys, context.get('caller'), role)
    return handle(context)
  }
}

function groupByPath(routes: readonly Route[]): ReadonlyMap<string, readonly Route[]> {
  const paths = new Map<string, Route[]>()
  for (const route of routes) paths.set(route.path, [...(paths.get(route.path) ?? []), route])
  return paths
}

function methodNotAllowed(ofPath: readonly Route[]) {
  const methods = ofPath.flatMap(({ method }) => (method === 'GET' ? ['GET', 'HEAD'] : [method]))
  return (): Response => {
    throw new ServerError('method_not_allowed', `this path answers ${methods.join(', ')} only`, {
      headers: { allow: methods.join(', ') },
    })
  }
}

const saneRequestId = /^[A-Za-z0-9._-]{1,128}$/
const knownMethods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/** Outermost middleware: gives every request an id, one log line and one measurement. */
function requestFrame(services: Services) {
  const { config, logger, observer, clock, admission } = services
  const cors = createCors(config.corsOrigins)
  return async function requestFrame(context: RequestContext, next: () => Promise<void>) {
    const startMs = clock.monotonicMs()
    const given = context.req.header('x-request-id') ?? ''
    const requestId = saneRequestId.test(given) ? given : `req-${randomUUID()}`
    context.set('requestId', requestId)
    await next()
    const headers = { 'x-request-id': requestId, ...cors.headers(context.req.header('origin')) }
    for (const [name, value] of Object.entries(headers)) context.res.headers.set(name, value)
    if (context.res.status >= 400 && context.res.status < 500 && context.res.status !== 429) {
      // The official clients retry 408 and 409 by themselves otherwise.
      context.res.headers.set('x-should-retry', 'false')
    }
    if (admission.isDraining) context.res.headers.set('connection', 'close')

    const path = context.get('route') ?? routePath(context, -1)
    const route = path === '*' || path === '/*' ? 'unmatched' : path
    const { status } = context.res

    function finish(outcome?: string) {
      const ms = clock.monotonicMs() - startMs
      const { method } = context.req
      const label = knownMethods.has(method) ? method : 'other'
      observer.httpResponse({ route, method: label, status, seconds: ms / 1000 })
      const { key = null } = context.get('caller') ?? {}
      if (key !== null) observer.keyUsed({ key: key.name, status })
      const applied = context.get('applied')
      const fields = {
        requestId,
        method: label,
        // What came stays readable where no route says it.
        route: route === 'unmatched' ? escapeUnprinted(context.req.path.slice(0, 128)) : route,
        status,
        ms: Math.round(ms),
        ...(applied === undefined ? {} : { adapter: adapterHeader(applied) }),
        ...(outcome === undefined ? {} : { outcome }),
        ...context.get('logFields'),
      }
      const isProbe = route.startsWith('/health') || route === '/metrics'
      if (isProbe) logger.debug(fields, 'request')
      else logger.info(fields, 'request')
    }

    const ended = context.get('ended')
    if (ended === undefined) finish()
    else void ended.then(finish)
  }
}

/** Anthropic's clients send the key alone. */
function authorizationOf({ req }: RequestContext): string | undefined {
  const key = req.header('x-api-key')
  return req.header('authorization') ?? (key === undefined ? undefined : `Bearer ${key}`)
}

/** Probes and scrapes are answered until the end; the route of /health/ready answers 503 then. */
function answersWhileDraining(path: string) {
  return openPaths.has(path) || path === '/metrics'
}

/** Who may come in: the Host header, the origin, the key; before anything is read or matched. */
function gates({ config, admission, keys }: Services, bound: string) {
  const checkHost = createCheckHost({ bound, allowed: config.allowedHosts })
  const cors = createCors(config.corsOrigins)
  const authenticate = createAuthenticate(keys)
  return async function gates(context: RequestContext, next: () => Promise<void>) {
    // Node takes a Host that makes no URL ("127.0..1").
    if (!URL.canParse(context.req.url)) {
      throw new ServerError('invalid_request', 'the request target or the Host header is not valid')
    }
    const { pathname, host } = new URL(context.req.url)
    checkHost(context.req.header('host') ?? host)
    const preflight = cors.preflight(context.req.raw)
    if (preflight !== undefined) return preflight
    context.set('caller', authenticate(pathname, authorizationOf(context)))
    if (answersWhileDraining(pathname)) return next()
    const leave = admission.arrive()
    try {
      return await next()
    } finally {
      leave()
    }
  }
}
