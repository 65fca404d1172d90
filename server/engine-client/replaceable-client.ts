// An engine that can be replaced while it serves. The next engine starts beside the current one and takes
// new requests once it is ready; the old one finishes its requests, then ends. A request whose adapters
// need modules that the engine lacks asks for a replacement and waits for it (adapter-provision.ts); so
// does who changes what the weights hold (merging.ts).
//
//   current ──────────── serves ────────────┬─ drains ─ ends
//   replace() ─ memory? ─ next loads ─ ready ┴─ serves …        (refused: current goes on)

import type { AdapterChange, AdapterChanged } from '../contracts/adapter.ts'
import type { EngineClient, Generation } from '../contracts/engine.ts'
import type { GenerateRequest } from '../contracts/generation.ts'
import { modelLoading, shuttingDown } from '../errors.ts'
import { createAdapterProvision } from './adapter-provision.ts'
import type { SingleEngine } from './client.ts'
import { type Change, createEngines, type EnginesOptions } from './engines.ts'
import { createEventQueue } from './event-queue.ts'
import { createMerging } from './merging.ts'

export interface ReplaceableClientOptions extends EnginesOptions {
  readonly now?: () => number
}

export interface ReplaceableClient extends EngineClient {
  /**
   * Resolves when new requests go to the new engine; rejects with ServerError when it cannot start,
   * and nothing has changed then. One after the other.
   */
  replace(change: Change): Promise<void>
}

export function createReplaceableClient(options: ReplaceableClientOptions): ReplaceableClient {
  const { observer, logger, availableBytes, now = () => performance.now() } = options
  const engines = createEngines(options)
  const merging = createMerging({ engines, observer, logger, availableBytes, now })

  function replace(change: Change): Promise<void> {
    return engines.inLine(() =>
      engines.replaceNow(change).catch((error) => {
        if (!engines.isClosing) observer.engineReplaced('refused')
        throw error
      }),
    )
  }

  function notServing() {
    return engines.isClosing ? shuttingDown() : modelLoading()
  }

  /** Throws where no engine takes requests. */
  function serving(): SingleEngine {
    if (engines.isShut) throw notServing()
    return engines.current.client
  }

  function submit(request: GenerateRequest): Generation {
    if (!engines.isShut) return engines.current.client.submit(request)
    const queue = createEventQueue()
    queue.push({ kind: 'failed', error: notServing().toBody() })
    return { id: request.id, events: queue.events, cancel() {} }
  }

  /** Changes of the folder that an engine makes. */
  const changing = new Map<Promise<unknown>, SingleEngine>()

  /** Engines that serve one after the other do not change the folder at once. */
  async function changeAdapter(change: AdapterChange): Promise<AdapterChanged> {
    const others = [...changing].filter(([, client]) => client !== serving())
    await Promise.allSettled(others.map(([work]) => work))
    const client = serving()
    const work = client.changeAdapter(change)
    changing.set(work, client)
    return work.finally(() => changing.delete(work))
  }

  const isClosing = () => engines.isClosing
  const provision = createAdapterProvision({ submit, replace, isClosing, logger })

  return {
    get state() {
      return engines.isShut && !engines.isClosing ? 'loading' : engines.current.client.state
    },
    get model() {
      return engines.current.client.model
    },
    get restarts() {
      return engines.restarts
    },
    get outage() {
      return engines.current.client.outage
    },
    submit: provision.submit,
    replace,
    tokenize: async (input, turn) => serving().tokenize(input, turn),
    detokenize: async (tokens, turn) => serving().detokenize(tokens, turn),
    listAdapters: async (query) => serving().listAdapters(query),
    changeAdapter,
    changeMerge: merging.change,
    get mergeStatus() {
      return merging.status
    },
    ready: () => engines.current.client.ready(),
    close: (how = {}) => engines.close(how),
  }
}
