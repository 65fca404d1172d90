// The front over a fake engine, for tests: in-process with `request`, over a socket with `listen`.

import type { FetchAdapter } from '../../server/contracts/adapter.ts'
import type { EngineClient } from '../../server/contracts/engine.ts'
import type { Observer } from '../../server/contracts/observer.ts'
import { type App, createApp } from '../../server/http/app.ts'
import type { HttpConfig, StreamLimits } from '../../server/http/context.ts'
import type { HttpServer, SocketLimits } from '../../server/http/server.ts'
import { createHttpServer, defaultSocketLimits } from '../../server/http/server.ts'
import { createMetrics, type Metrics } from '../../server/metrics/registry.ts'
import { within } from './deadline.ts'
import { createFakeEngine, type FakeEngine } from './fake-engine.ts'

export const testConfig: HttpConfig = {
  host: '127.0.0.1',
  apiKey: null,
  clientHeader: null,
  corsOrigins: null,
  allowedHosts: null,
  maxQueue: 256,
  maxBatch: 8,
  maxBody: 200_000,
  requestTimeout: 60_000,
  reasoningField: 'both',
  defaultAdapter: null,
  requireAdapter: null,
  safety: null,
  policyFloor: 'refuse',
  guardFailure: 'closed',
  judgeEvery: 32,
  adapters: 'no-such-folder',
  maxUpload: 1_000_000,
  adminKey: null,
  adminPort: null,
  adminHost: null,
  adminMetrics: false,
  keysOfFile: null,
  safetyThreshold: null,
  escalateAdapter: null,
  begunAnswers: null,
}

interface LogLine {
  readonly level: string
  readonly fields: Record<string, unknown>
  readonly message: string
}

export interface Front {
  readonly app: App
  readonly engine: FakeEngine
  readonly metrics: Metrics
  readonly log: LogLine[]
  request(path: string, init?: RequestInit): Promise<Response>
  post(path: string, body: unknown, init?: RequestInit): Promise<Response>
  /** One number of the metrics page; 0 where the series does not exist yet. */
  metric(series: string): Promise<number>
}

export interface FrontOptions {
  readonly config?: Partial<HttpConfig>
  readonly engine?: FakeEngine
  readonly streamLimits?: StreamLimits
  readonly observer?: Observer
  readonly fetchAdapter?: FetchAdapter | null
  /** What the front sees of the engine. */
  readonly wrap?: (engine: EngineClient, metrics: Metrics) => EngineClient
}

export const createFront = (options: FrontOptions = {}): Front => {
  const { engine = createFakeEngine() } = options
  const log: LogLine[] = []
  const at = (level: string) => (fields: object, message: string) => {
    log.push({ level, fields: { ...fields }, message })
  }
  const metrics = createMetrics()
  if (engine.model) metrics.engineReady(engine.model)
  const app = createApp({
    engine: options.wrap?.(engine, metrics) ?? engine,
    config: { ...testConfig, ...options.config },
    observer: options.observer ?? metrics,
    metrics,
    logger: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') },
    version: '0.0.0-test',
    fetchAdapter: options.fetchAdapter ?? null,
    ...(options.streamLimits ? { streamLimits: options.streamLimits } : {}),
  })
  const request = async (path: string, init: RequestInit = {}) =>
    app.hono.request(`http://127.0.0.1${path}`, init)
  return {
    app,
    engine,
    metrics,
    log,
    request,
    post: (path, body, init = {}) =>
      request(path, {
        method: 'POST',
        body: typeof body === 'string' ? body : JSON.stringify(body),
        ...init,
        headers: { 'content-type': 'application/json', ...(init.headers as object) },
      }),
    async metric(series) {
      const page = await metrics.render()
      const line = page.split('\n').find((candidate) => candidate.startsWith(`${series} `))
      return Number(line?.slice(series.length + 1) ?? 0)
    },
  }
}

/** The front on a free port of 127.0.0.1; `close` ends everything at once. */
export const listen = async (
  front: Front,
  limits: Partial<SocketLimits> = {},
): Promise<{ url: string; port: number; close(): Promise<void>; drain: HttpServer['drain'] }> => {
  const server = createHttpServer({
    app: front.app,
    host: '127.0.0.1',
    port: 0,
    logger: { debug() {}, info() {}, warn() {}, error() {} },
    limits: { ...defaultSocketLimits, ...limits },
  })
  const { url, port } = await server.listen()
  const force = AbortSignal.abort()
  const close = async () => void (await server.drain({ timeoutMs: 0, force }))
  return { url, port, close, drain: server.drain }
}

export const userMessage = { role: 'user', content: 'Hi' } as const
export const goodChat = { model: 'tiny', messages: [userMessage] } as const

/** Parses a whole SSE text into its events; comments are dropped. */
export const parseEvents = (text: string): Array<Record<string, unknown> | '[DONE]'> =>
  text
    .split('\n\n')
    .filter((block) => block.startsWith('data: '))
    .map((block) => block.slice('data: '.length))
    .map((data) => (data === '[DONE]' ? data : JSON.parse(data)))

/** Resolves when the claim holds; looked at each turn of the event loop, bounded by `within`. */
export const until = (ms: number, what: string, claim: () => boolean): Promise<void> => {
  let isOver = false
  const look = async () => {
    while (!claim() && !isOver) await new Promise((resolve) => setImmediate(resolve))
  }
  return within(ms, what, look()).finally(() => {
    isOver = true
  })
}

// biome-ignore lint/suspicious/noExplicitAny: a test asserts on whatever came
export const readJson = async (response: Response): Promise<any> => response.json()
