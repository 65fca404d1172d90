// Replacing an engine while it serves, over fake engines: who gets which request, what is told to
// the observer, and what happens when the other engine cannot start.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { EngineOptions, ModelInfo } from '../server/contracts/engine.ts'
import { type GenerationEvent, isTerminal } from '../server/contracts/generation.ts'
import type { Observer } from '../server/contracts/observer.ts'
import { createDeferred, type Deferred } from '../server/engine-client/deferred.ts'
import { createReplaceableClient } from '../server/engine-client/replaceable-client.ts'
import { ServerError } from '../server/errors.ts'
import { within } from './support/deadline.ts'
import {
  accepted,
  createFakeEngine,
  done,
  type FakeEngine,
  fakeModel,
} from './support/fake-engine.ts'
import { createRequest } from './support/scripted-model.ts'

const patience = 10_000
const options: EngineOptions = {
  model: '/model',
  servedModelName: 'tiny',
  adapters: '/adapters',
  guard: 'none',
  operatorsAdapters: [],
  adapterModules: ['up_proj'],
  scansAdapters: true,
  upstream: null,
  merged: [],
  acceptsOtherBases: false,
  guardExact: false,
  device: 'cpu',
  onnxruntime: null,
  kernels: 'auto',
  kvCacheDtype: 'auto',
  weights: 'auto',
  weightBlock: null,
  weightZeroPoints: null,
  maxBatch: 8,
  maxContext: null,
  kvMemoryBytes: null,
  maxAdapterRank: 16,
  adapterMemoryBytes: null,
  threads: null,
  cacheDir: '/cache',
}

interface Started {
  readonly options: EngineOptions
  readonly observer: Observer
  readonly fake: FakeEngine
  /** Settled by the test. */
  readonly loading: Deferred<void>
  readonly ended: Deferred<void>
  isAskedToEnd: boolean
  isForced: boolean
}

/** What each adapter changes, and the state of its folder. */
type Needs = Record<string, { modules: readonly string[]; version: string }>

function createWorld({ needs = {}, available = 1e12 }: { needs?: Needs; available?: number } = {}) {
  const engines: Started[] = []
  const told: string[] = []
  const note =
    (what: string) =>
    (value: unknown): void =>
      void told.push(`${what} ${JSON.stringify(value)}`)
  const ignore = () => {}
  const observer: Observer = {
    httpResponse: ignore,
    clientDisconnected: ignore,
    firstToken: ignore,
    interToken: ignore,
    requestFinished: ignore,
    verdict: ignore,
    blocked: ignore,
    escalated: ignore,
    floorRefused: ignore,
    guardAsked: ignore,
    adapterChanged: ignore,
    uploaded: ignore,
    keyUsed: ignore,
    keyTokens: ignore,
    engineStats: ({ running, residentAdapters }) => note('stats')([running, residentAdapters]),
    engineState: note('state'),
    engineReady: ({ adapterModules }) => note('ready')(adapterModules),
    engineRestarted: note('restarted'),
    engineReplaced: note('replaced'),
    mergeEnded: note('merge'),
  }
  const world = { needs, available }
  const client = createReplaceableClient({
    options,
    observer,
    logger: { debug: ignore, info: ignore, warn: ignore, error: ignore },
    availableBytes: () => world.available,
    create(options, observer): FakeEngine {
      const fake = createFakeEngine()
      const model: ModelInfo = { ...fakeModel, adapterModules: options.adapterModules }
      fake.model = undefined
      fake.state = 'loading'
      fake.script = async function* (request, signal) {
        for (const { id } of request.adapters) {
          const { modules, version } = world.needs[id] ?? { modules: [], version: '' }
          const missing = modules.filter((name) => !model.adapterModules.some((x) => x === name))
          if (missing.length === 0) continue
          const error = new ServerError('unsupported_adapter', 'no place', {
            needs: { adapterId: id, modules: missing, version },
          })
          yield { kind: 'failed', error: error.toBody() }
          return
        }
        yield accepted(request)
        if (request.sampling.stop.includes('hang')) {
          await new Promise((resolve) => {
            signal.addEventListener('abort', resolve)
            void engine.ended.promise.then(resolve)
          })
        }
        yield done
      }
      const engine: Started = {
        options,
        observer,
        fake,
        loading: createDeferred(),
        ended: createDeferred(),
        isAskedToEnd: false,
        isForced: false,
      }
      const number = engines.push(engine)
      observer.engineState('loading')
      void engine.loading.promise.then(
        () => {
          fake.model = model
          fake.state = 'ready'
          observer.engineState('ready')
          observer.engineReady(model)
        },
        () => {},
      )
      return Object.assign(fake, {
        number,
        ready: async () => {
          await engine.loading.promise
          return model
        },
        async close({ force = false } = {}) {
          engine.isAskedToEnd = true
          engine.isForced ||= force
          fake.state = 'stopped'
          observer.engineState('stopped')
          if (!force) await engine.ended.promise
        },
      })
    },
  })
  return {
    client,
    engines,
    told,
    world,
    async start() {
      engines[0]!.loading.resolve()
      await client.ready()
      await turn()
    },
    /** The engine that is started as number so-and-so. */
    async started(number: number): Promise<Started> {
      while (engines.length < number) await turn()
      return engines[number - 1]!
    },
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

let numRequests = 0
const requestFor = (...ids: string[]) =>
  createRequest({
    id: `request ${numRequests++}`,
    adapters: ids.map((id) => ({ id, scale: null })),
  })

async function collect(events: AsyncIterable<GenerationEvent>): Promise<GenerationEvent[]> {
  const read = async () => {
    const all: GenerationEvent[] = []
    for await (const event of events) all.push(event)
    return all
  }
  const all = await within(patience, 'end', read())
  assert.equal(all.filter(isTerminal).length, 1)
  assert.ok(isTerminal(all.at(-1)!))
  return all
}

const kinds = (events: readonly GenerationEvent[]) => events.map(({ kind }) => kind)

function errorOf(events: readonly GenerationEvent[]) {
  const [only] = events
  assert.ok(only?.kind === 'failed' && events.length === 1, JSON.stringify(events))
  return only.error
}

const wide: Needs = { wide: { modules: ['q_proj'], version: 'v1' } }

describe('an engine that is replaced for an adapter', () => {
  it('goes on until the other is ready; the request waits and runs on the other', async () => {
    const { client, engines, started, start } = createWorld({ needs: wide })
    await start()
    const running = client.submit({
      ...requestFor(),
      sampling: { ...requestFor().sampling, stop: ['hang'] },
    })
    const runningEnd = collect(running.events)
    const asking = collect(client.submit(requestFor('wide')).events)
    const next = await within(patience, 'other engine', started(2))
    assert.deepEqual(next.options.adapterModules, ['q_proj', 'up_proj'])
    assert.deepEqual(kinds(await collect(client.submit(requestFor()).events)), ['accepted', 'done'])
    assert.equal(client.state, 'ready')
    assert.equal(engines[0]!.isAskedToEnd, false)

    next.loading.resolve()
    assert.deepEqual(kinds(await asking), ['accepted', 'done'])
    assert.equal(engines[0]!.isAskedToEnd, true)
    assert.equal(engines[0]!.isForced, false)
    assert.deepEqual(client.model?.adapterModules, ['q_proj', 'up_proj'])
    const before = engines[0]!.fake.requests.length
    await collect(client.submit(requestFor('wide')).events)
    assert.equal(engines[0]!.fake.requests.length, before)

    engines[0]!.ended.resolve()
    assert.deepEqual(kinds(await runningEnd), ['accepted', 'done'])
    assert.equal(engines.length, 2)
  })

  it('offers the same context and memory as before, whatever is free by now', async () => {
    const { client, started, start } = createWorld({ needs: wide })
    await start()
    const asking = collect(client.submit(requestFor('wide')).events)
    const { options, loading } = await within(patience, 'other engine', started(2))
    loading.resolve()
    await asking
    assert.deepEqual(
      [options.maxContext, options.kvMemoryBytes, options.adapterMemoryBytes],
      [512, 1_000_000, 1000],
    )
  })

  it('is told to the observer as one engine; a replacement is no restart', async () => {
    const { client, engines, told, started, start } = createWorld({ needs: wide })
    await start()
    const stats = {
      running: 1,
      waiting: 0,
      kvUsage: 0,
      runningAdapters: [],
      waitingAdapters: [],
      residentAdapters: 3,
      residentAdapterBytes: 300,
      pinnedAdapters: 0,
    }
    engines[0]!.observer.engineStats(stats)
    const asking = collect(client.submit(requestFor('wide')).events)
    const next = await within(patience, 'other engine', started(2))
    next.loading.resolve()
    await asking
    next.observer.engineStats({ ...stats, running: 2, residentAdapters: 1 })
    engines[0]!.ended.resolve()
    await turn()
    assert.deepEqual(told, [
      'state "loading"',
      'state "ready"',
      'ready ["up_proj"]',
      'stats [1,3]',
      'ready ["q_proj","up_proj"]',
      'replaced "replaced"',
      'stats [3,1]',
      'stats [2,1]',
    ])
    assert.equal(client.restarts, 0)
  })

  it('is replaced once for many requests, and once more for another module', async () => {
    const { client, engines, started, start } = createWorld({
      needs: { ...wide, other: { modules: ['o_proj'], version: 'v1' } },
    })
    await start()
    const asking = ['wide', 'wide', 'wide', 'other'].map((id) =>
      collect(client.submit(requestFor(id)).events),
    )
    for (const number of [2, 3]) {
      const engine = await within(patience, `engine ${number}`, started(number))
      engine.loading.resolve()
    }
    for (const events of await Promise.all(asking)) {
      assert.deepEqual(kinds(events), ['accepted', 'done'])
    }
    assert.equal(engines.length, 3)
    assert.deepEqual(client.model?.adapterModules, ['q_proj', 'o_proj', 'up_proj'])
  })

  it('a request that is cancelled while it waits ends at once; the replacement goes on', async () => {
    const { client, started, start } = createWorld({ needs: wide })
    await start()
    const generation = client.submit(requestFor('wide'))
    const asking = collect(generation.events)
    const next = await within(patience, 'other engine', started(2))
    generation.cancel()
    generation.cancel()
    assert.deepEqual(kinds(await asking), ['cancelled'])
    next.loading.resolve()
    while (client.model?.adapterModules.length === 1) await turn()
  })
})

describe('an engine that cannot be replaced', () => {
  it('goes on; the adapter is refused with the reason, again only when its folder changes', async () => {
    const { client, engines, told, world, started, start } = createWorld({ needs: { ...wide } })
    await start()
    const asking = [1, 2].map(() => collect(client.submit(requestFor('wide')).events))
    const next = await within(patience, 'other engine', started(2))
    next.loading.reject(new ServerError('invalid_checkpoint', 'The disk is full.'))
    for (const events of await Promise.all(asking)) {
      const { code, message } = errorOf(events)
      assert.equal(code, 'adapter_unavailable')
      assert.match(message, /"wide" changes q_proj.*could not be started: The disk is full\./)
    }
    assert.equal(next.isForced, true)
    const { code, message } = errorOf(await collect(client.submit(requestFor('wide')).events))
    assert.equal(code, 'unsupported_adapter')
    assert.match(message, /The disk is full\..*when its folder changes/)
    assert.equal(engines.length, 2)
    assert.equal(client.state, 'ready')
    assert.deepEqual(kinds(await collect(client.submit(requestFor()).events)), ['accepted', 'done'])
    assert.ok(told.includes('replaced "refused"'))

    world.needs.wide = { modules: ['q_proj'], version: 'v2' }
    const again = collect(client.submit(requestFor('wide')).events)
    const third = await within(patience, 'third engine', started(3))
    third.loading.resolve()
    assert.deepEqual(kinds(await again), ['accepted', 'done'])
  })

  it('for want of memory says how much is needed and how much is free, and starts nothing', async () => {
    const { client, engines, start } = createWorld({ needs: wide, available: 3 * 2 ** 20 })
    await start()
    const { code, message } = errorOf(await collect(client.submit(requestFor('wide')).events))
    assert.equal(code, 'adapter_unavailable')
    assert.match(
      message,
      /needs 7 MiB \(weights 4, workspace 1, adapters 1, adapters of running rows 2, KV cache 1\) and 3 MiB are free/,
    )
    assert.equal(engines.length, 1)
  })
})

describe('replace', () => {
  it('serves any change of options, and none where the current engine will do', async () => {
    const { client, engines, started, start } = createWorld()
    await start()
    await within(
      patience,
      'nothing',
      client.replace(() => null),
    )
    assert.equal(engines.length, 1)
    const replaced = client.replace((options) => ({ ...options, model: '/merged' }))
    const next = await within(patience, 'other engine', started(2))
    assert.equal(next.options.model, '/merged')
    next.loading.resolve()
    await within(patience, 'replacement', replaced)
    assert.equal(engines[0]!.isAskedToEnd, true)
  })

  it('is ended by close, and so is every engine', async () => {
    const { client, engines, started, start } = createWorld({ needs: wide })
    await start()
    const asking = collect(client.submit(requestFor('wide')).events)
    const next = await within(patience, 'other engine', started(2))
    const closed = client.close({ force: true })
    next.loading.reject(new ServerError('shutting_down', 'stopped'))
    await within(patience, 'close', closed)
    assert.equal(errorOf(await asking).code, 'shutting_down')
    assert.ok(engines.every(({ isAskedToEnd }) => isAskedToEnd))
  })
})
