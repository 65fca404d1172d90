// The front's side of the engine: starts the process, speaks the protocol, and keeps the promise
// that every request ends in exactly one terminal event, whatever becomes of the process.

import { type ChildProcess, fork } from 'node:child_process'
import type {
  EngineClient,
  EngineOptions,
  EngineState,
  Generation,
  ModelInfo,
} from '../contracts/engine.ts'
import { type GenerateRequest, isTerminal } from '../contracts/generation.ts'
import type { Logger } from '../contracts/logger.ts'
import type { Observer } from '../contracts/observer.ts'
import { ServerError } from '../errors.ts'
import { createDeferred } from './deferred.ts'
import { createEventQueue, type EventQueue } from './event-queue.ts'
import { withHugePages } from './huge-pages.ts'
import type { CallName, Calls, FromEngine, ToEngine } from './protocol.ts'

// Built from this file's own suffix: tsc rewrites imports but not URLs.
const entry = new URL(`../engine/process${import.meta.url.slice(-3)}`, import.meta.url)

/** When an engine counts as stuck, and how fast it is started again. */
export interface EngineLimits {
  /** It says nothing for so long (its heart beats every second). */
  readonly silenceMs: number
  /** One step takes so long; those of large models take seconds. */
  readonly stepMs: number
  readonly watchIntervalMs: number
  readonly firstBackoffMs: number
  readonly maxBackoffMs: number
  /** The backoff starts anew after so long without a failure. */
  readonly healthyAfterMs: number
}

const defaultLimits: EngineLimits = {
  silenceMs: 30_000,
  stepMs: 300_000,
  watchIntervalMs: 5_000,
  firstBackoffMs: 200,
  maxBackoffMs: 30_000,
  healthyAfterMs: 60_000,
}

export interface EngineClientOptions {
  readonly options: EngineOptions
  readonly observer: Observer
  readonly logger: Logger
  readonly limits?: Partial<EngineLimits>
  /** Told while a checkpoint is converted. */
  readonly onProgress?: (what: string, done: number, total: number) => void
}

/** An engine in a child process of this one. */
export interface LocalEngineClient extends EngineClient {
  /** The engine process of the moment; another one after a restart. */
  readonly pid: number | undefined
}

interface PendingCall {
  readonly resolve: (value: never) => void
  readonly reject: (error: ServerError) => void
  /** Resolves when it is answered or refused. */
  readonly settled: Promise<unknown>
}

export function createEngineClient({
  options,
  observer,
  logger,
  limits: given,
  onProgress,
}: EngineClientOptions): LocalEngineClient {
  const limits = { ...defaultLimits, ...given }
  const generations = new Map<string, EventQueue>()
  const calls = new Map<number, PendingCall>()
  let nextCallId = 0
  let state: EngineState = 'loading'
  let model: ModelInfo | undefined
  let restarts = 0
  let failuresInARow = 0
  let child: ChildProcess
  let lastHeard = performance.now()
  let readySince = 0
  let isHung = false
  let restartTimer: NodeJS.Timeout | undefined
  const whenReady = createDeferred<ModelInfo>()
  whenReady.promise.catch(() => {}) // A front that never asks must not crash on it.
  let whenGone = createDeferred<void>()

  function setState(next: EngineState): void {
    state = next
    observer.engineState(next)
  }

  function send(message: ToEngine): void {
    if (child.connected) child.send(message)
  }

  function receive(message: FromEngine): void {
    lastHeard = performance.now()
    switch (message.kind) {
      case 'ready':
        model = message.model
        readySince = performance.now()
        setState('ready')
        observer.engineReady(message.model)
        whenReady.resolve(message.model)
        break
      case 'refused':
        logger.error({ code: message.error.code }, message.error.message)
        whenReady.reject(ServerError.from(message.error))
        break
      case 'progress':
        onProgress?.(message.what, message.done, message.total)
        break
      case 'notice':
        logger.warn({}, message.message)
        break
      case 'events':
        for (const [id, event] of message.events) {
          const queue = generations.get(id)
          if (isTerminal(event)) generations.delete(id)
          queue?.push(event)
        }
        break
      case 'stats':
        observer.engineStats(message.stats)
        break
      case 'heartbeat':
        if ((message.stepMs ?? 0) > limits.stepMs) killHung('a step took too long')
        break
      case 'answer':
        calls.get(message.id)?.resolve(message.value as never)
        calls.delete(message.id)
        break
      case 'refusal':
        calls.get(message.id)?.reject(ServerError.from(message.error))
        calls.delete(message.id)
        break
    }
  }

  function killHung(why: string): void {
    logger.error({ why }, 'engine is stuck: killing it')
    isHung = true
    child.kill('SIGKILL')
  }

  /** Ends every request and question that the gone process left open. */
  function failAll(error: ServerError): void {
    for (const [id, queue] of generations) {
      generations.delete(id)
      queue.push({ kind: 'failed', error: error.toBody() })
    }
    for (const [id, call] of calls) {
      calls.delete(id)
      call.reject(error)
    }
  }

  function onExit(code: number | null, signal: NodeJS.Signals | null): void {
    failAll(new ServerError('engine_crashed', 'The engine stopped while it ran this request.'))
    whenGone.resolve()
    if (state === 'stopped') return
    logger.error({ code, signal }, 'engine process ended')
    if (model === undefined) {
      // It never got ready: trying again would fail alike.
      whenReady.reject(
        new ServerError(
          'invalid_checkpoint',
          `The engine ended while loading (${signal ?? code}).`,
        ),
      )
      setState('stopped')
      return
    }
    restarts++
    observer.engineRestarted(isHung ? 'hung' : 'crashed')
    if (performance.now() - readySince > limits.healthyAfterMs) failuresInARow = 0
    const backoffMs = Math.min(limits.firstBackoffMs * 2 ** failuresInARow++, limits.maxBackoffMs)
    setState('restarting')
    restartTimer = setTimeout(start, backoffMs)
  }

  function start(): void {
    isHung = false
    lastHeard = performance.now()
    whenGone = createDeferred<void>()
    child = fork(entry, { serialization: 'advanced', env: withHugePages(process.env) })
    child.on('message', receive)
    const started = child
    started.once('exit', (code, signal) => {
      // Its last words may come after 'exit'; they come before 'disconnect'.
      if (started.connected) started.once('disconnect', () => onExit(code, signal))
      else onExit(code, signal)
    })
    // Each message to a process that has just died is an error of its own.
    child.on('error', (error) => logger.error({ error: error.message }, 'engine process'))
    send({ kind: 'start', options })
  }

  const watch = setInterval(() => {
    const silentMs = performance.now() - lastHeard
    // Also while it ends: running requests wait for it.
    const shallSpeak = state === 'ready' || (state === 'stopped' && model !== undefined)
    if (shallSpeak && silentMs > limits.silenceMs) killHung(`silent for ${silentMs} ms`)
  }, limits.watchIntervalMs)
  watch.unref()
  setState('loading')
  start()

  function call<Name extends CallName>(name: Name, input: Calls[Name][0]): Promise<Calls[Name][1]> {
    if (state !== 'ready') return Promise.reject(notReady())
    const id = nextCallId++
    const { promise, resolve, reject } = createDeferred<Calls[Name][1]>()
    calls.set(id, { resolve, reject, settled: promise.catch(() => {}) })
    send({ kind: 'call', id, name, input } as ToEngine)
    return promise
  }

  const isGone = () =>
    child.pid === undefined || child.exitCode !== null || child.signalCode !== null

  function notReady(): ServerError {
    return state === 'stopped'
      ? new ServerError('shutting_down', 'The server is shutting down.')
      : new ServerError('model_loading', 'The model is loading; try again in a moment.')
  }

  return {
    get state() {
      return state
    },
    get model() {
      return model
    },
    get restarts() {
      return restarts
    },
    get pid() {
      return child.pid
    },
    ready: () => whenReady.promise,

    submit(request: GenerateRequest): Generation {
      const queue = createEventQueue()
      if (state === 'ready') {
        generations.set(request.id, queue)
        send({ kind: 'submit', request })
      } else {
        queue.push({ kind: 'failed', error: notReady().toBody() })
      }
      const cancel = () => {
        if (generations.has(request.id)) send({ kind: 'cancel', id: request.id })
      }
      return { id: request.id, events: queue.events, cancel }
    },

    tokenize: (input) => call('tokenize', input),
    detokenize: (tokens) => call('detokenize', tokens),
    listAdapters: () => call('listAdapters', null),

    async close({ force = false } = {}) {
      clearTimeout(restartTimer)
      if (state === 'stopped' && !child.connected) {
        // It never started, or somebody else is closing it.
        clearInterval(watch)
        if (!isGone()) await whenGone.promise
        return
      }
      setState('stopped')
      whenReady.reject(new ServerError('shutting_down', 'The server is shutting down.'))
      const open = [
        ...[...generations.values()].map(({ ended }) => ended),
        ...[...calls.values()].map(({ settled }) => settled),
      ]
      if (!force) await Promise.all(open)
      clearInterval(watch)
      failAll(new ServerError('shutting_down', 'The server is shutting down.'))
      if (isGone()) return
      if (child.connected) child.disconnect()
      const deadline = setTimeout(() => child.kill('SIGKILL'), 5_000)
      await whenGone.promise
      clearTimeout(deadline)
    },
  }
}
