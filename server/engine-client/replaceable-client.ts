// An engine that can be replaced while it serves. Another one is started beside it and takes new
// requests once it is ready; the old one finishes what it runs, then ends. A request that the engine
// cannot run for want of adapter modules asks for such a replacement and waits for it.
//
//   current ──────────── serves ────────────┬─ drains ─ ends
//   replace() ─ memory? ─ next loads ─ ready ┴─ serves …        (refused: current goes on)

import { mebibytes } from '../contracts/bytes.ts'
import { type LinearModule, linearModules } from '../contracts/checkpoint.ts'
import type { EngineClient, EngineOptions, Generation, ModelInfo } from '../contracts/engine.ts'
import type { GenerateRequest, GenerationEvent } from '../contracts/generation.ts'
import type { Logger } from '../contracts/logger.ts'
import { describeParts, totalBytes } from '../contracts/memory.ts'
import type { Observer } from '../contracts/observer.ts'
import { type EngineNeeds, type ErrorBody, ServerError } from '../errors.ts'
import { createDeferred } from './deferred.ts'
import { createSharedObserver, type ObserverShare } from './shared-observer.ts'

export interface ReplaceableClientOptions {
  readonly options: EngineOptions
  readonly create: (options: EngineOptions, observer: Observer) => EngineClient
  readonly observer: Observer
  readonly logger: Logger
  /** Memory that another engine may take. */
  readonly availableBytes: () => number
}

/** The next engine's options from the current one's; null: the current one will do. */
export type Change = (options: EngineOptions, model: ModelInfo) => EngineOptions | null

export interface ReplaceableClient extends EngineClient {
  /**
   * Resolves when new requests go to the new engine; rejects with ServerError when it cannot start,
   * and nothing has changed then. One after the other.
   */
  replace(change: Change): Promise<void>
}

interface Engine {
  readonly client: EngineClient
  readonly options: EngineOptions
  readonly share: ObserverShare
}

interface Refusal {
  readonly version: string
  readonly reason: string
}

export function createReplaceableClient({
  options: firstOptions,
  create,
  observer,
  logger,
  availableBytes,
}: ReplaceableClientOptions): ReplaceableClient {
  const sharedObserver = createSharedObserver(observer)
  /** All that run, the current one and those that load or drain. */
  const engines = new Set<Engine>()
  /** Adapter → why there was no engine for it, while its folder stays as it was. */
  const refusals = new Map<string, Refusal>()
  let current = start(firstOptions)
  let lastReplacement: Promise<void> = Promise.resolve()
  let isClosing = false
  let goneRestarts = 0

  function start(options: EngineOptions): Engine {
    const share = sharedObserver.share()
    const engine = { client: create(options, share.observer), options, share }
    engines.add(engine)
    return engine
  }

  async function end(engine: Engine, how: { force?: boolean } = {}): Promise<void> {
    await engine.client.close(how)
    if (!engines.delete(engine)) return
    goneRestarts += engine.client.restarts
    engine.share.leave()
  }

  async function replaceNow(change: Change): Promise<void> {
    const model = await current.client.ready()
    const options = change(current.options, model)
    if (options === null) return
    if (isClosing) throw new ServerError('shutting_down', 'The server is shutting down.')
    refuseWithoutMemory(model)
    logger.info({ modules: options.adapterModules }, 'starting another engine')
    const next = start({ ...options, ...sizesOf(model) })
    try {
      await next.client.ready()
    } catch (error) {
      await end(next, { force: true })
      throw error
    }
    const old = current
    current = next
    next.share.lead()
    observer.engineReplaced('replaced')
    logger.info({}, 'the other engine has taken over')
    end(old).catch((error) => logger.error({ error: String(error) }, 'engine did not end'))
  }

  /** As much as the current one; what more places take the other counts itself, when it starts. */
  function refuseWithoutMemory({ bytes }: ModelInfo): void {
    const available = availableBytes()
    if (totalBytes(bytes) <= available) return
    throw new ServerError(
      'adapter_limit',
      `A second engine needs ${describeParts(bytes)} and ${mebibytes(available)} MiB are free`,
    )
  }

  function replace(change: Change): Promise<void> {
    const mine = lastReplacement
      .catch(() => {})
      .then(() => replaceNow(change))
      .catch((error) => {
        if (!isClosing) observer.engineReplaced('refused')
        throw error
      })
    lastReplacement = mine
    mine.catch(() => {})
    return mine
  }

  // ---- Adapters that need more modules ----

  /** Resolves when an engine can run the adapter; otherwise with what to tell the client. */
  async function provide(needs: EngineNeeds): Promise<ServerError | null> {
    const before = refusalOf(needs)
    if (before !== undefined) return refused(needs, before)
    try {
      await replace((options, model) => {
        // Somebody before us in the line may have asked for the same.
        const earlier = refusalOf(needs)
        if (earlier !== undefined) throw new Error(earlier.reason)
        const adapterModules = join(model.adapterModules, needs.modules)
        const isServed = adapterModules.length === model.adapterModules.length
        return isServed ? null : { ...options, adapterModules }
      })
      return null
    } catch (error) {
      if (isClosing) return new ServerError('shutting_down', 'The server is shutting down.')
      const reason = (error as Error).message
      refusals.set(needs.adapterId, { version: needs.version, reason })
      logger.error({ adapter: needs.adapterId, reason }, 'no engine for an adapter')
      return unavailable(needs, reason)
    }
  }

  function refusalOf({ adapterId, version }: EngineNeeds): Refusal | undefined {
    const refusal = refusals.get(adapterId)
    return refusal?.version === version ? refusal : undefined
  }

  function submit(request: GenerateRequest): Generation {
    let inner = current.client.submit(request)
    const cancelled = createDeferred<'cancelled'>()

    async function* run(): AsyncGenerator<GenerationEvent, void> {
      // Each replacement brings a module more.
      for (let left: number = linearModules.length; ; left--) {
        const refusal = yield* passOn(inner.events)
        if (refusal === null) return
        const outcome =
          left === 0
            ? ServerError.from(refusal)
            : await Promise.race([provide(refusal.needs), cancelled.promise])
        if (outcome !== null) {
          yield outcome === 'cancelled'
            ? { kind: 'cancelled' }
            : { kind: 'failed', error: outcome.toBody() }
          return
        }
        inner = current.client.submit(request)
      }
    }

    return {
      id: request.id,
      events: run(),
      cancel() {
        cancelled.resolve('cancelled')
        inner.cancel()
      },
    }
  }

  return {
    get state() {
      return current.client.state
    },
    get model() {
      return current.client.model
    },
    get restarts() {
      return [...engines].reduce((sum, { client }) => sum + client.restarts, goneRestarts)
    },
    submit,
    replace,
    tokenize: (input) => current.client.tokenize(input),
    detokenize: (tokens) => current.client.detokenize(tokens),
    listAdapters: () => current.client.listAdapters(),
    ready: () => current.client.ready(),
    async close(how = {}) {
      isClosing = true
      await Promise.all([...engines].map((engine) => end(engine, how)))
    },
  }
}

/** Hands events on; stops before a refusal that another engine would not give. */
async function* passOn(
  events: AsyncIterable<GenerationEvent>,
): AsyncGenerator<GenerationEvent, (ErrorBody & { needs: EngineNeeds }) | null> {
  for await (const event of events) {
    if (event.kind === 'failed' && event.error.needs) {
      return { ...event.error, needs: event.error.needs }
    }
    yield event
  }
  return null
}

/** The next engine offers what clients have come to know, whatever memory is free by now. */
const sizesOf = ({ maxContext, bytes }: ModelInfo) => ({
  maxContext,
  kvMemoryBytes: bytes.kv,
  adapterMemoryBytes: bytes.adapters,
})

const join = (modules: readonly LinearModule[], more: readonly string[]): readonly LinearModule[] =>
  linearModules.filter((module) => modules.includes(module) || more.includes(module))

const unavailable = ({ adapterId, modules }: EngineNeeds, reason: string) =>
  new ServerError(
    'adapter_unavailable',
    `Adapter "${adapterId}" changes ${modules.join(', ')}, for which the engine has no place, and ` +
      `another could not be started: ${reason}`,
    { param: 'adapter' },
  )

const refused = ({ adapterId, modules }: EngineNeeds, { reason }: Refusal) =>
  new ServerError(
    'unsupported_adapter',
    `Adapter "${adapterId}" changes ${modules.join(', ')}, for which this server has no place: ` +
      `${reason} It is tried again when its folder changes.`,
    { param: 'adapter' },
  )
