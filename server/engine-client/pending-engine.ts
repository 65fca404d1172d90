// An engine that does not exist yet, because its checkpoint is still being downloaded. It answers like
// an engine that is loading until the real one takes over, so the port can be open meanwhile.

import type { EngineClient, EngineState } from '../contracts/engine.ts'
import { noMerge } from '../contracts/engine.ts'
import type { Observer } from '../contracts/observer.ts'
import { modelLoading, type ServerError, shuttingDown } from '../errors.ts'
import { createEventQueue } from './event-queue.ts'

export interface PendingEngineOptions {
  readonly observer: Observer
  /** Its rejection is why the engine never gets ready. Aborted when the engine is closed. */
  readonly create: (signal: AbortSignal) => Promise<EngineClient>
}

export function createPendingEngine({ observer, create }: PendingEngineOptions): EngineClient {
  const closing = new AbortController()
  let engine: EngineClient | undefined
  observer.engineState('loading')
  const created = create(closing.signal).then(
    (it) => {
      engine = it
      return it
    },
    (error) => {
      throw closing.signal.aborted ? shuttingDown() : error
    },
  )
  created.catch(() => {}) // A front that never asks must not crash on it.

  function notReady(): ServerError {
    return closing.signal.aborted ? shuttingDown() : modelLoading('being downloaded')
  }

  function requireEngine(): EngineClient {
    if (engine) return engine
    throw notReady()
  }

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
    get outage() {
      return engine?.outage ?? null
    },
    submit(request) {
      if (engine) return engine.submit(request)
      const queue = createEventQueue()
      queue.push({ kind: 'failed', error: notReady().toBody() })
      return { id: request.id, events: queue.events, cancel() {} }
    },
    tokenize: async (input, turn) => requireEngine().tokenize(input, turn),
    detokenize: async (tokens, turn) => requireEngine().detokenize(tokens, turn),
    listAdapters: async (query) => requireEngine().listAdapters(query),
    changeMerge: async (change) => requireEngine().changeMerge(change),
    get mergeStatus() {
      return engine?.mergeStatus ?? noMerge
    },
    changeAdapter: async (change) => requireEngine().changeAdapter(change),
    ready: async () => (await created).ready(),
    async close(options) {
      closing.abort()
      const late = await created.catch(() => undefined)
      await late?.close(options)
    },
  }
}
