// Runs the front over an engine until a signal ends it. Apart from main.ts so that a test can run the
// very same thing over a fake engine in a child process.

import type { FetchAdapter } from './contracts/adapter.ts'
import { mebibytes } from './contracts/bytes.ts'
import type { EngineClient, ModelInfo } from './contracts/engine.ts'
import type { Logger } from './contracts/logger.ts'
import type { Observer } from './contracts/observer.ts'
import { createApp } from './http/app.ts'
import type { HttpConfig } from './http/context.ts'
import { adminAddress } from './http/listeners.ts'
import { createHttpServer } from './http/server.ts'
import type { Metrics } from './metrics/registry.ts'

export interface ServeOptions {
  readonly config: HttpConfig & { readonly port: number; readonly drainTimeout: number }
  readonly engine: EngineClient
  readonly metrics: Metrics
  /** Tells the metrics, and perhaps others. */
  readonly observer: Observer
  readonly logger: Logger
  readonly version: string
  /** null: no adapter is fetched from a hub. */
  readonly fetchAdapter?: FetchAdapter | null
  /** Last checks; what it throws ends the process. */
  readonly onReady?: (model: ModelInfo) => Promise<void>
}

/** Resolves when the process may exit with code 0; rejects with ServerError when it cannot serve. */
export async function serve(options: ServeOptions): Promise<void> {
  const { config, engine, metrics, observer, logger, version, fetchAdapter = null } = options
  const app = createApp({
    engine,
    config,
    observer,
    metrics,
    logger,
    version,
    fetchAdapter,
  })
  const server = createHttpServer({
    app,
    host: config.host,
    port: config.port,
    admin: adminAddress(config),
    logger,
  })
  const signals = listenForSignals()

  // 1. The port first: health checks answer while the model loads.
  const { url, admin } = await server.listen().catch(async (error: unknown) => {
    await engine.close({ force: true })
    throw error
  })
  logger.info({ url, ...(admin === null ? {} : { adminUrl: admin.url }) }, 'listening')
  const firstSignal = signals.first.then(() => 'signal' as const)
  try {
    const started = await Promise.race([startEngine(options, url), firstSignal])
    // 2. Serve until the first signal.
    if (started !== 'signal') await firstSignal
  } catch (error) {
    await engine.close({ force: true })
    throw error
  }

  // 3. Running requests finish; a second signal or --drain-timeout ends them.
  logger.info({ inFlight: app.admission.numInFlight }, 'shutting down')
  const outcome = await server.drain({
    timeoutMs: config.drainTimeout,
    force: signals.second,
  })
  await engine.close({ force: outcome === 'aborted' || engine.state !== 'ready' })
  logger.info({ outcome }, 'stopped')
}

async function startEngine(options: ServeOptions, url: string): Promise<'ready'> {
  const { engine, logger, onReady } = options
  const model = await engine.ready()
  await onReady?.(model)
  const { device, weights, kernels, kvCacheDtype, maxContext, modelContext } = model
  const memoryMiB = Object.fromEntries(
    Object.entries(model.bytes).map(([kind, bytes]) => [kind, mebibytes(bytes)]),
  )
  const { peakRssBytes, ...seconds } = model.startup
  const startup = { ...seconds, peakRssMiB: mebibytes(peakRssBytes) }
  const { id } = model
  const computes = { device, weights, kernels, kvCacheDtype }
  logger.info({ url, model: id, ...computes, maxContext, memoryMiB, startup }, 'ready')
  if (maxContext < modelContext) logger.warn({ maxContext, modelContext }, 'context is shortened')
  if (process.stdout.isTTY)
    process.stdout.write(`dutyfree: ${model.id} is ready on ${url} (${describe(model)})\n`)
  return 'ready'
}

function describe({ startup, weights }: ModelInfo): string {
  const { convertSeconds, loadSeconds, firstTokenSeconds, peakRssBytes } = startup
  const seconds = convertSeconds + loadSeconds + firstTokenSeconds
  return (
    `${weights}; first token after ${seconds.toFixed(1)} s, of which converting ` +
    `${convertSeconds.toFixed(1)} s; peak memory ${mebibytes(peakRssBytes)} MiB`
  )
}

/** Ctrl-C under `npm start` arrives twice, from the terminal and from the parent: that is one signal. */
const sameSignalMs = 300

function listenForSignals() {
  const second = new AbortController()
  let firstMs: number | undefined
  let onFirst: () => void = () => {}
  const first = new Promise<void>((resolve) => {
    onFirst = resolve
  })
  function onSignal(): void {
    const nowMs = performance.now()
    if (firstMs !== undefined && nowMs - firstMs > sameSignalMs) second.abort()
    firstMs ??= nowMs
    onFirst()
  }
  // Never taken off: a late signal must not turn a clean exit into a death.
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, onSignal)
  return { first, second: second.signal }
}
