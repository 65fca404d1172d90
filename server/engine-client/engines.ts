// The engines behind one client: the current one, and those that load or drain. Changes of them come one
// after the other.

import { mebibytes } from '../contracts/bytes.ts'
import type { EngineOptions, ModelInfo } from '../contracts/engine.ts'
import type { Logger } from '../contracts/logger.ts'
import { describeParts, totalBytes } from '../contracts/memory.ts'
import type { Observer } from '../contracts/observer.ts'
import { ServerError, shuttingDown } from '../errors.ts'
import type { SingleEngine } from './client.ts'
import { createSharedObserver, type ObserverShare } from './shared-observer.ts'

type OnProgress = (what: string, done: number, total: number) => void

/** The next engine's options from the current one's; null: the current one will do. */
export type Change = (options: EngineOptions, model: ModelInfo) => EngineOptions | null

export interface EnginesOptions {
  readonly options: EngineOptions
  readonly create: (
    options: EngineOptions,
    observer: Observer,
    onProgress: OnProgress,
  ) => SingleEngine
  readonly observer: Observer
  readonly logger: Logger
  /** Memory that another engine may take. */
  readonly availableBytes: () => number
}

export interface Engine {
  readonly client: SingleEngine
  readonly options: EngineOptions
  readonly share: ObserverShare
}

/** What changes of the engine are made of. */
export interface Engines {
  readonly current: Engine
  readonly isClosing: boolean
  /** No engine takes requests, though one will. */
  readonly isShut: boolean
  /** Of all that there are and were. */
  readonly restarts: number
  /** After all changes that were asked for before. */
  inLine<T>(work: () => Promise<T>): Promise<T>
  /** For who is in line already. */
  replaceNow(change: Change): Promise<void>
  /** Resolves when it is ready; it is gone where this rejects. `model`: whose sizes it has. */
  startNext(options: EngineOptions, model: ModelInfo, onProgress?: OnProgress): Promise<Engine>
  /** New requests go to it; the one before ends when its requests have ended. */
  takeOver(next: Engine): void
  end(engine: Engine, how?: { force?: boolean }): Promise<void>
  /** Requests are refused, as while an engine loads, until the returned function is called. */
  shut(): () => void
  /** Ends all of them. */
  close(how: { force?: boolean }): Promise<void>
}

export function createEngines({
  options: firstOptions,
  create,
  observer,
  logger,
  availableBytes,
}: EnginesOptions): Engines {
  const sharedObserver = createSharedObserver(observer)
  /** All processes: the current engine, and those that load or drain. */
  const all = new Set<Engine>()
  let current = start(firstOptions, () => {})
  let last: Promise<unknown> = Promise.resolve()
  let isClosing = false
  let isShut = false
  let goneRestarts = 0

  function start(options: EngineOptions, onProgress: OnProgress): Engine {
    const share = sharedObserver.share()
    const engine = { client: create(options, share.observer, onProgress), options, share }
    all.add(engine)
    return engine
  }

  async function end(engine: Engine, how: { force?: boolean } = {}): Promise<void> {
    await engine.client.close(how)
    if (!all.delete(engine)) return
    goneRestarts += engine.client.restarts
    engine.share.leave()
  }

  async function startNext(
    options: EngineOptions,
    model: ModelInfo,
    onProgress: OnProgress = () => {},
  ): Promise<Engine> {
    if (isClosing) throw shuttingDown()
    const { adapterModules: modules, merged } = options
    const adapters = merged.map(({ id, scale }) => `${id}:${scale}`)
    logger.info({ modules, merged: adapters }, 'starting another engine')
    const next = start({ ...options, ...sizesOf(model) }, onProgress)
    // Nobody else serves.
    if (isShut) next.share.lead()
    try {
      await next.client.ready()
      return next
    } catch (error) {
      await end(next, { force: true })
      throw error
    }
  }

  function takeOver(next: Engine): void {
    const old = current
    current = next
    next.share.lead()
    observer.engineReplaced('replaced')
    logger.info({}, 'the other engine has taken over')
    end(old).catch((error) => logger.error({ error: String(error) }, 'engine did not end'))
  }

  async function replaceNow(change: Change): Promise<void> {
    const model = await current.client.ready()
    const options = change(current.options, model)
    if (options === null) return
    if (isClosing) throw shuttingDown()
    refuseWithoutMemory(model)
    takeOver(await startNext(options, model))
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

  function inLine<T>(work: () => Promise<T>): Promise<T> {
    const mine = last.then(work, work)
    last = mine
    mine.catch(() => {})
    return mine
  }

  return {
    get current() {
      return current
    },
    get isClosing() {
      return isClosing
    },
    get isShut() {
      return isShut
    },
    get restarts() {
      return [...all].reduce((sum, { client }) => sum + client.restarts, goneRestarts)
    },
    inLine,
    replaceNow,
    startNext,
    takeOver,
    end,
    shut() {
      isShut = true
      return () => {
        isShut = false
      }
    },
    async close(how) {
      isClosing = true
      await Promise.all([...all].map((engine) => end(engine, how)))
    },
  }
}

/** The next engine offers what clients know of this one, whatever memory is free by now. */
function sizesOf({ maxContext, bytes }: ModelInfo) {
  return { maxContext, kvMemoryBytes: bytes.kv, adapterMemoryBytes: bytes.adapters }
}
