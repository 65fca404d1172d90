// The front's side of the engine process: requests and calls out, events and answers back. Every request
// ends in exactly one terminal event, whatever becomes of the process.

import type { MergeTarget, PreparedMerge } from '../contracts/adapter.ts'
import type {
  EngineClient,
  EngineOptions,
  EngineState,
  Generation,
  ModelInfo,
} from '../contracts/engine.ts'
import { type GenerateRequest, type GenerationEvent, isTerminal } from '../contracts/generation.ts'
import type { Logger } from '../contracts/logger.ts'
import type { Observer } from '../contracts/observer.ts'
import { type ErrorBody, modelLoading, ServerError, shuttingDown } from '../errors.ts'
import type { ForkEngine } from './child-engine.ts'
import { createDeferred } from './deferred.ts'
import { createEngineProcess, type EngineLimits } from './engine-process.ts'
import { createEventQueue, type EventQueue } from './event-queue.ts'
import { createPendingCalls } from './pending-calls.ts'
import type { CallName, Calls, FromEngine } from './protocol.ts'

export interface EngineClientOptions {
  readonly options: EngineOptions
  readonly observer: Observer
  readonly logger: Logger
  readonly limits?: Partial<EngineLimits>
  /** Called while a checkpoint is converted. */
  readonly onProgress?: (what: string, done: number, total: number) => void
  /** Makes the process; the engine's own unless given. */
  readonly fork?: ForkEngine
}

/** One engine, whose weights stay as they are. */
export interface SingleEngine extends Omit<EngineClient, 'changeMerge' | 'mergeStatus'> {
  /** Rejects with ServerError; nothing has changed then. */
  prepareMerge(target: MergeTarget): Promise<PreparedMerge>
}

/** An engine in a child process of this one. */
export interface LocalEngineClient extends SingleEngine {
  /** The engine process of the moment; another one after a restart. */
  readonly pid: number | undefined
}

export function createEngineClient({
  options,
  observer,
  logger,
  limits = {},
  onProgress,
  fork,
}: EngineClientOptions): LocalEngineClient {
  const generations = new Map<string, EventQueue>()
  const calls = createPendingCalls()
  let model: ModelInfo | undefined
  let outage: ErrorBody | null = null
  const whenReady = createDeferred<ModelInfo>()
  whenReady.promise.catch(() => {}) // A front that never asks must not crash on it.
  const engine = createEngineProcess({
    options,
    observer,
    logger,
    limits,
    ...(fork && { fork }),
    onMessage: receive,
    onGone() {
      outage = null
      failAll(new ServerError('engine_crashed', 'The engine stopped while it ran this request.'))
    },
    onFailedStart: (error) => whenReady.reject(error),
  })

  function receive(message: FromEngine): void {
    switch (message.kind) {
      case 'ready':
        model = message.model
        engine.markReady()
        observer.engineReady(message.model)
        whenReady.resolve(message.model)
        break
      case 'refused':
        logger.error({ code: message.error.code }, message.error.message)
        engine.markRefused()
        whenReady.reject(ServerError.from(message.error))
        break
      case 'progress':
        onProgress?.(message.what, message.done, message.total)
        break
      case 'notice':
        logger.warn({}, message.message)
        break
      case 'events':
        for (const [id, event] of message.events) deliver(id, event)
        break
      case 'outage':
        outage = message.error
        break
      case 'stats':
        observer.engineStats(message.stats)
        break
      case 'answer':
        calls.answer(message)
        break
      case 'refusal':
        calls.refuse(message, ServerError.from(message.error))
        break
    }
  }

  function deliver(id: string, event: GenerationEvent): void {
    const queue = generations.get(id)
    if (isTerminal(event)) generations.delete(id)
    queue?.push(event)
  }

  /** Ends every request and call that is open. */
  function failAll(error: ServerError): void {
    for (const id of [...generations.keys()]) deliver(id, { kind: 'failed', error: error.toBody() })
    calls.refuseAll(error)
  }

  async function call<Name extends CallName>(
    name: Name,
    input: Calls[Name][0],
  ): Promise<Calls[Name][1]> {
    if (engine.state !== 'ready') throw notReady(engine.state)
    const { call, answer } = calls.open(name, input)
    if (!engine.send(call)) calls.refuse(call, unsendable())
    return answer
  }

  return {
    get state() {
      return engine.state
    },
    get model() {
      return model
    },
    get restarts() {
      return engine.restarts
    },
    get outage() {
      return outage
    },
    get pid() {
      return engine.pid
    },
    ready: () => whenReady.promise,

    submit(request: GenerateRequest): Generation {
      const queue = createEventQueue()
      if (engine.state === 'ready') {
        generations.set(request.id, queue)
        const isSent = engine.send({ kind: 'submit', request })
        if (!isSent) deliver(request.id, { kind: 'failed', error: unsendable().toBody() })
      } else {
        queue.push({ kind: 'failed', error: notReady(engine.state).toBody() })
      }
      function cancel(): void {
        if (generations.has(request.id)) engine.send({ kind: 'cancel', id: request.id })
      }
      return { id: request.id, events: queue.events, cancel }
    },

    tokenize: (input, turn) => call('tokenize', { input, turn }),
    detokenize: (tokens, turn) => call('detokenize', { input: tokens, turn }),
    listAdapters: (query = {}) => call('listAdapters', query),
    changeAdapter: (change) => call('changeAdapter', change),
    prepareMerge: (target) => call('prepareMerge', target),

    async close({ force = false } = {}) {
      if (!engine.stop()) return engine.gone()
      whenReady.reject(shuttingDown())
      if (!force) {
        const ended = [...generations.values()].map((queue) => queue.ended)
        await Promise.all([...ended, calls.allSettled()])
      }
      failAll(shuttingDown())
      await engine.end()
    },
  }
}

function notReady(state: EngineState): ServerError {
  switch (state) {
    case 'stopped':
      return shuttingDown()
    case 'unresponsive':
    case 'restarting':
      return modelLoading(state)
    case 'loading':
    case 'ready':
      return modelLoading()
  }
}

function unsendable(): ServerError {
  return new ServerError('server_error', 'The request could not be handed to the engine.')
}
