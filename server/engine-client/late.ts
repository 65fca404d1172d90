// An engine that does not exist yet: its checkpoint is still on its way. Answers as an engine that is
// loading until the real one takes over, so that the port can be open meanwhile.

import type { EngineClient, EngineState } from '../contracts/engine.ts'
import type { Observer } from '../contracts/observer.ts'
import { ServerError } from '../errors.ts'
import { createEventQueue } from './event-queue.ts'

export interface LateEngineOptions {
  readonly observer: Observer
  /** What it rejects with is why the engine never gets ready. Aborted when the engine is closed. */
  readonly create: (signal: AbortSignal) => Promise<EngineClient>
}

export function createLateEngine({ observer, create }: LateEngineOptions): EngineClient {
  const closing = new AbortController()
  const stopped = () => new ServerError('shutting_down', 'The server is shutting down.')
  let engine: EngineClient | undefined
  observer.engineState('loading')
  const created = create(closing.signal).then(
    (it) => {
      engine = it
      return it
    },
    (error) => {
      throw closing.signal.aborted ? stopped() : error
    },
  )
  created.catch(() => {}) // A front that never asks must not crash on it.

  const notReady = () =>
    closing.signal.aborted
      ? stopped()
      : new ServerError('model_loading', 'The model is being downloaded; try again later.')

  return {
    get state(): EngineState {
      return engine?.state ?? (closing.signal.aborted ? 'stopped' : 'loading')
    },
    get model() {
      return engine?.model
    },
    get restarts() {
      return engine?.restarts ?? 0
    },
    submit(request) {
      if (engine) return engine.submit(request)
      const queue = createEventQueue()
      queue.push({ kind: 'failed', error: notReady().toBody() })
      return { id: request.id, events: queue.events, cancel() {} }
    },
    tokenize: async (input) => requireEngine().tokenize(input),
    detokenize: async (tokens) => requireEngine().detokenize(tokens),
    listAdapters: async () => requireEngine().listAdapters(),
    ready: async () => (await created).ready(),
    async close(options) {
      closing.abort()
      const late = await created.catch(() => undefined)
      await late?.close(options)
    },
  }

  function requireEngine(): EngineClient {
    if (engine) return engine
    throw notReady()
  }
}
