// The socket side: Node's HTTP server with its limits, listening, and the two ways to stop.
// What Node itself refuses (broken or slow or oversized headers) gets the same error shape as the rest.

import { createServer, type Server, STATUS_CODES } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { getRequestListener, RequestError } from '@hono/node-server'
import type { Logger } from '../contracts/logger.ts'
import { unlessLate } from '../deadline.ts'
import { ServerError } from '../errors.ts'
import type { App } from './app.ts'
import { errorResponse, openAIError, toServerError } from './error-response.ts'
import { createBodyPace } from './wire/body-pace.ts'
import { markRefused } from './wire/client-fault.ts'
import { lingerOnClose } from './wire/linger.ts'

/**
 * Connections that wait to be accepted, as far as the system allows. Past Node's 511 a rush of clients
 * is dropped without a word, and each tries again only after 1, 3 and 7 s.
 */
const backlog = 4096

export interface SocketLimits {
  readonly headersTimeoutMs: number
  /** Headers and body together. */
  readonly requestTimeoutMs: number
  /** Longer than load balancers keep idle connections, so that they close first. */
  readonly keepAliveTimeoutMs: number
  readonly maxHeaderBytes: number
  /** How often Node looks for slow requests. */
  readonly checkingIntervalMs: number
}

export const defaultSocketLimits: SocketLimits = {
  headersTimeoutMs: 15_000,
  requestTimeoutMs: 60_000,
  keepAliveTimeoutMs: 75_000,
  maxHeaderBytes: 16 * 1024,
  checkingIntervalMs: 2_000,
}

interface Listening {
  readonly url: string
  readonly port: number
  /** Of --admin-port; null: there is none. */
  readonly admin: { readonly url: string; readonly port: number } | null
}

export interface HttpServer {
  /** Rejects with ServerError invalid_config when a port cannot be had. */
  listen(): Promise<Listening>
  /**
   * New requests get 503 and running ones finish; after `timeoutMs`, or when `force` aborts, they end
   * in an error. Resolves when the last connection is closed.
   */
  drain(options: { timeoutMs: number; force: AbortSignal }): Promise<'finished' | 'aborted'>
}

interface Address {
  readonly host: string
  readonly port: number
}

export function createHttpServer(options: {
  readonly app: App
  readonly host: string
  readonly port: number
  /** Where the app has a part of its own for changes. */
  readonly admin?: Address | null
  readonly logger: Logger
  readonly limits?: SocketLimits
}): HttpServer {
  const { app, host, port, admin = null, logger, limits = defaultSocketLimits } = options
  const open = (fetch: Fetch) => createListener({ app, fetch, logger, limits })
  const server = open(app.hono.fetch)
  const adminServer = admin && app.admin && open(app.admin.fetch)

  return {
    async listen() {
      const listening = await listen(server, { host, port, flag: '' })
      if (admin === null || adminServer === null) return { ...listening, admin: null }
      try {
        const second = await listen(adminServer, { ...admin, flag: 'admin-' })
        return { ...listening, admin: second }
      } catch (error) {
        await closeServer(server)
        throw error
      }
    },
    async drain({ timeoutMs, force }) {
      app.admission.drain()
      const outcome = await raceDrain(app.admission.whenIdle(), timeoutMs, force)
      // The terminal error of each stream still has to be written before its connection closes.
      if (outcome === 'aborted') app.admission.stopAll()
      await Promise.all([server, adminServer].map((each) => each && closeServer(each)))
      return outcome
    },
  }
}

type Fetch = App['hono']['fetch']

function createListener({
  app,
  fetch,
  logger,
  limits,
}: {
  readonly app: App
  readonly fetch: Fetch
  readonly logger: Logger
  readonly limits: SocketLimits
}): Server {
  const listener = getRequestListener(fetch, {
    overrideGlobalObjects: false,
    errorHandler(error) {
      const refusal = asRequestError(error, logger)
      app.onRefused(refusal.status, refusal.code)
      return errorResponse(refusal)
    },
  })
  const paceBody = createBodyPace()
  const server = createServer(
    {
      maxHeaderSize: limits.maxHeaderBytes,
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: limits.checkingIntervalMs,
    },
    (incoming, outgoing) => {
      paceBody(incoming)
      lingerOnClose(incoming)
      void listener(incoming, outgoing)
    },
  )
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) =>
    answerClientError(error, socket, app),
  )
  return server
}

/** `flag`: what stands before "host" and "port" in the names of its flags. */
function listen(server: Server, { host, port, flag }: Address & { readonly flag: string }) {
  return new Promise<{ url: string; port: number }>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const noAddress = `is no address of this machine; choose another --${flag}host`
      const reasons: Record<string, string> = {
        EADDRINUSE: `is in use; choose another --${flag}port or stop the process that holds it`,
        EACCES: `may not be bound by this user; choose a --${flag}port above 1023`,
        EADDRNOTAVAIL: noAddress,
        ENOTFOUND: noAddress,
      }
      const reason = reasons[error.code ?? ''] ?? `cannot be bound: ${error.message}`
      reject(new ServerError('invalid_config', `${host}:${port} ${reason}`, { cause: error }))
    })
    server.listen({ port, host, backlog }, () => {
      const { port: bound } = server.address() as AddressInfo
      const shown = host.includes(':') ? `[${host}]` : host
      resolve({ url: `http://${shown}:${bound}`, port: bound })
    })
  })
}

function raceDrain(
  idle: Promise<void>,
  timeoutMs: number,
  force: AbortSignal,
): Promise<'finished' | 'aborted'> {
  const forced = new Promise<'aborted'>((resolve) => {
    if (force.aborted) resolve('aborted')
    force.addEventListener('abort', () => resolve('aborted'), { once: true })
  })
  const ended = Promise.race([idle.then(() => 'finished' as const), forced])
  return unlessLate(timeoutMs, ended, () => 'aborted')
}

/** Answers under way get a second to be written; what is still open then is cut. */
function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const cut = setTimeout(() => server.closeAllConnections(), 1000)
    server.close(() => {
      clearTimeout(cut)
      resolve()
    })
    server.closeIdleConnections()
  })
}

/** What the adapter between Node and fetch refuses: a target or Host that is no URL. */
function asRequestError(error: unknown, logger: Logger): ServerError {
  if (!(error instanceof RequestError)) return toServerError(error, logger, 'none')
  return /request path/i.test(error.message)
    ? new ServerError('not_found', 'no route at this path')
    : new ServerError('invalid_request', 'the request target or the Host header is not valid')
}

/** A request under way is booked by whoever handles it, others here. */
function answerClientError(error: NodeJS.ErrnoException, socket: Socket, app: App): void {
  const underWay = (socket as { _httpMessage?: { headersSent?: boolean } | null })._httpMessage
  if (!socket.writable || error.code === 'ECONNRESET' || underWay?.headersSent) {
    socket.destroy()
    return
  }
  const { status, answer } = clientErrorAnswer(error.code)
  // An end in the middle is a client that left, whether or not it still reads.
  const hasLeft = error.code === 'HPE_INVALID_EOF_STATE'
  if (underWay && !hasLeft) markRefused(socket, status)
  else if (!underWay) app.onRefused(status, answer.error.code)
  const body = JSON.stringify(answer)
  socket.end(
    [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      'content-type: application/json',
      `content-length: ${Buffer.byteLength(body)}`,
      'connection: close',
      '',
      body,
    ].join('\r\n'),
  )
}

function clientErrorAnswer(code: string | undefined) {
  const of = (error: ServerError) => ({ status: error.status, answer: openAIError(error) })
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return of(new ServerError('headers_too_large', 'the headers are too large; send fewer'))
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return of(new ServerError('request_timeout', 'the request took too long to arrive'))
    default:
      return of(new ServerError('invalid_request', 'the request is not valid HTTP'))
  }
}
