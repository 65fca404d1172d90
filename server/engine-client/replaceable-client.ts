// An engine that can be replaced while it serves. The next engine starts beside the current one and takes
// new requests once it is ready; the old one finishes its requests, then ends. A request whose adapters
// need modules that the engine lacks asks for a replacement and waits for it (adapter-provision.ts).
//
//   current ──────────── serves ────────────┬─ drains ─ ends
//   replace() ─ memory? ─ next loads ─ ready ┴─ serves …        (refused: current goes on)

import { mebibytes } from '../contracts/bytes.ts'
import type { EngineClient, EngineOptions, ModelInfo } from '../contracts/engine.ts'
import type { Logger } from '../contracts/logger.ts'
import { describeParts, totalBytes } from '../contracts/memory.ts'
import type { Observer } from '../contracts/observer.ts'
import { ServerError, shuttingDown } from '../errors.ts'
import { type Change, createAdapterProvision } from './adapter-provision.ts'
import { createSharedObserver, type ObserverShare } from './shared-observer.ts'

export interface ReplaceableClientOptions {
  readonly options: EngineOptions
  readonly create: (options: EngineOptions, observer: Observer) => EngineClient
  readonly observer: Observer
  readonly logger: Logger
  /** Memory that another engine may take. */
  readonly availableBytes: () => number
}

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

export function createReplaceableClient({
  options: firstOptions,
  create,
  observer,
  logger,
  availableBytes,
}: ReplaceableClientOptions): ReplaceableClient {
  const sharedObserver = createSharedObserver(observer)
  /** All processes: the current engine, and those that load or drain. */
  const engines = new Set<Engine>()
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
    if (isClosing) throw shuttingDown()
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

  /** The next engine needs what the current one does; it counts its further sites itself, at its start. */
  function refuseWithoutMemory({ bytes }: ModelInfo): void {
    const available = availableBytes()
    if (totalBytes(bytes) <= available) return
    throw new ServerError(
      'adapter_limit',
      `A second engine needs ${describeParts(bytes)} and ${mebibytes(available)} MiB are free; ` +
        "declare the adapter's modules with --adapter-modules or lower --kv-memory",
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

  const provision = createAdapterProvision({
    submit: (request) => current.client.submit(request),
    replace,
    isClosing: () => isClosing,
    logger,
  })

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
    submit: provision.submit,
    replace,
    tokenize: (input, turn) => current.client.tokenize(input, turn),
    detokenize: (tokens, turn) => current.client.detokenize(tokens, turn),
    listAdapters: (query) => current.client.listAdapters(query),
    ready: () => current.client.ready(),
    async close(how = {}) {
      isClosing = true
      await Promise.all([...engines].map((engine) => end(engine, how)))
    },
  }
}

/** The next engine offers what clients know of this one, whatever memory is free by now. */
function sizesOf({ maxContext, bytes }: ModelInfo) {
  return { maxContext, kvMemoryBytes: bytes.kv, adapterMemoryBytes: bytes.adapters }
}
