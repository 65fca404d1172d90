// Changes of the weights over fake engines: what is compared before anybody meets the new weights, and that
// whatever fails leaves the engine from before.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { MergedAdapter } from '../server/contracts/adapter.ts'
import type { LinearModule } from '../server/contracts/checkpoint.ts'
import type { EngineOptions, MergeChange, ModelInfo } from '../server/contracts/engine.ts'
import type { GenerateRequest, GenerationEvent } from '../server/contracts/generation.ts'
import type { Observer } from '../server/contracts/observer.ts'
import { createDeferred, type Deferred } from '../server/engine-client/deferred.ts'
import { createReplaceableClient } from '../server/engine-client/replaceable-client.ts'
import { ServerError } from '../server/errors.ts'
import { within } from './support/deadline.ts'
import {
  accepted,
  createFakeEngine,
  digestOf,
  done,
  type FakeEngine,
  failed,
  fakeModel,
} from './support/fake-engine.ts'
import { createRequest } from './support/scripted-model.ts'

const patience = 10_000
const firstOptions = {
  ...{ model: '/model', servedModelName: 'tiny', adapters: '/adapters', merged: [] },
  adapterModules: ['up_proj'],
} as unknown as EngineOptions

interface Started {
  readonly number: number
  readonly options: EngineOptions
  readonly fake: FakeEngine
  readonly loading: Deferred<void>
  /** Its requests have ended. */
  readonly drained: Deferred<void>
  readonly onProgress: (what: string, done: number, total: number) => void
  isAskedToEnd: boolean
  isForced: boolean
}

interface Faults {
  /** Added to every log-probability of that engine. */
  bias: Record<number, number>
  /** Engines that fail every request. */
  crashed: Set<number>
  available: number
  /** Modules of the adapter that is merged. */
  modules: readonly LinearModule[]
  /** Of what the folders hold. */
  digests: Record<string, string>
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

/** `bind`: engines are ready at once. */
function createWorld(changes: Partial<Faults> = {}, isQuick = true) {
  const faults: Faults = {
    ...{ bias: {}, crashed: new Set(), available: 1e12, modules: ['up_proj'], digests: {} },
    ...changes,
  }
  const engines: Started[] = []
  const told: string[] = []
  const ignore = () => {}
  const observer = new Proxy({} as Observer, {
    get: (_, name) => (value: unknown) => {
      if (name === 'mergeEnded' || name === 'engineState') told.push(`${String(name)} ${value}`)
    },
    ownKeys: () => ['mergeEnded', 'engineState', 'engineReady', 'engineStats', 'engineReplaced'],
    getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true }),
  })

  /** What adapters make of each token's log-probability. */
  const sumOf = ({ adapters }: GenerateRequest) =>
    adapters.reduce((sum, { id, scale }) => sum + id.length * scale!, 0)

  function create(
    options: EngineOptions,
    observer: Observer,
    onProgress: Started['onProgress'],
  ): FakeEngine {
    const fake = createFakeEngine()
    const { adapterModules, merged } = options
    const model: ModelInfo = { ...fakeModel, adapterModules, merged }
    const number = engines.length + 1
    fake.state = 'loading'
    fake.model = undefined
    fake.script = async function* (request): AsyncGenerator<GenerationEvent> {
      if (faults.crashed.has(number)) {
        yield failed('engine_crashed', 'The engine stopped while it ran this request.')
        return
      }
      yield accepted(request)
      if (request.promptLogprobs !== null) {
        const value = -1 - sumOf(request) / 10 + (faults.bias[number] ?? 0)
        const logprobs = { numTop: 0, logprobs: Float64Array.of(Number.NaN, value, value - 1) }
        yield { kind: 'prompt', index: 0, text: '', logprobs: logprobs as never }
      }
      yield done
    }
    fake.prepareMerge = async ({ id, scale }) => {
      if (id === 'missing') throw new ServerError('model_not_found', 'There is no adapter.')
      const digest = faults.digests[id] ?? digestOf(id)
      return { merged: { id, digest, scale: scale ?? 1 }, modules: faults.modules }
    }
    const engine: Started = {
      ...{ number, options, fake, onProgress, isAskedToEnd: false, isForced: false },
      ...{ loading: createDeferred<void>(), drained: createDeferred<void>() },
    }
    engines.push(engine)
    if (isQuick || number === 1) engine.loading.resolve()
    engine.drained.promise.catch(ignore)
    void engine.loading.promise.then(() => {
      fake.model = model
      fake.state = 'ready'
      observer.engineState('ready')
    }, ignore)
    return Object.assign(fake, {
      async ready() {
        await engine.loading.promise
        return model
      },
      async close({ force = false } = {}) {
        engine.isAskedToEnd = true
        engine.isForced ||= force
        fake.state = 'stopped'
        observer.engineState('stopped')
        if (!force) await engine.drained.promise
      },
    })
  }

  const client = createReplaceableClient({
    ...{ options: firstOptions, create, observer },
    logger: { debug: ignore, info: ignore, warn: ignore, error: ignore },
    availableBytes: () => faults.available,
  })
  let numRequests = 0
  return {
    ...{ client, engines, told, faults },
    merge: (id: string, scale: number | null = null, drains = false) =>
      client.changeMerge({ kind: 'merge', id, scale, drains }),
    unmerge: (id: string | null = null, drains = false) =>
      client.changeMerge({ kind: 'unmerge', id, drains }),
    async started(number: number): Promise<Started> {
      while (engines.length < number) await turn()
      return engines[number - 1]!
    },
    /** Which engine takes a request, or why none does. */
    async asked(): Promise<string> {
      const request = createRequest({ id: `ask ${numRequests++}`, adapters: [] })
      for await (const event of client.submit(request).events) {
        if (event.kind === 'failed') return event.error.code
      }
      const taken = engines.find(({ fake }) => fake.requests.some(({ id }) => id === request.id))
      return `engine ${taken?.number}`
    },
  }
}

const of = (merged: readonly MergedAdapter[]) => merged.map(({ id, scale }) => `${id}:${scale}`)
const within10 = <T>(work: Promise<T>) => within(patience, 'change', work)

describe('a change of the weights', () => {
  it('is compared with the adapters beside the weights, then takes over; the old engine drains', async () => {
    const { merge, unmerge, engines, asked, told, client } = createWorld()
    const report = await within10(merge('safe', 2))
    assert.equal(report.outcome, 'merged')
    assert.deepEqual(of(report.merged), ['safe:2'])
    const { tokens, mean, largest, effect } = report.difference!
    assert.deepEqual([tokens, mean, largest], [8, 0, 0])
    assert.ok(Math.abs(effect - 0.8) < 1e-9)
    assert.deepEqual(of(engines[1]!.options.merged), ['safe:2'])
    // Both were asked for the same, by name.
    const named = (engine: Started) =>
      engine.fake.requests.map(({ adapters }) => of(adapters as never))
    assert.deepEqual(named(engines[0]!).slice(-4), Array(4).fill(['safe:2']))
    assert.deepEqual(named(engines[1]!), Array(4).fill(['safe:2']))
    assert.equal(await asked(), 'engine 2')
    assert.deepEqual([engines[0]!.isAskedToEnd, engines[0]!.isForced], [true, false])
    engines[0]!.drained.resolve()

    assert.equal((await within10(merge('safe', 2))).outcome, 'unchanged')
    assert.deepEqual(of((await within10(merge('calm', 1))).merged), ['safe:2', 'calm:1'])
    assert.deepEqual(of((await within10(merge('safe', 1))).merged), ['calm:1', 'safe:1'])
    assert.deepEqual(of((await within10(unmerge('calm'))).merged), ['safe:1'])
    assert.deepEqual(of((await within10(unmerge())).merged), [])
    assert.equal((await within10(unmerge())).outcome, 'unchanged')
    assert.equal(await asked(), 'engine 6')
    assert.deepEqual(
      told.filter((line) => line.startsWith('merge')).map((line) => line.split(' ')[1]),
      ['merged', 'unchanged', 'merged', 'merged', 'unmerged', 'unmerged', 'unchanged'],
    )
    assert.equal(client.mergeStatus.last!.report!.outcome, 'unchanged')
  })

  it('brings sites for an adapter that the engine has none for, to compare it', async () => {
    const { merge, engines } = createWorld({ modules: ['q_proj', 'up_proj'] })
    await within10(merge('wide'))
    assert.deepEqual(
      engines.map(({ options }) => options.adapterModules),
      [['up_proj'], ['q_proj', 'up_proj'], ['q_proj', 'up_proj']],
    )
    assert.deepEqual(
      engines.map(({ options }) => of(options.merged)),
      [[], [], ['wide:1']],
    )
  })

  it('tells how far it is, and comes one at a time', async () => {
    const { merge, unmerge, started, client } = createWorld({}, false)
    const first = merge('safe')
    const next = await within10(started(2))
    next.onProgress('folding adapters', 3, 10)
    const { phase, change, progress } = client.mergeStatus
    assert.deepEqual([phase, (change as MergeChange).kind], ['starting', 'merge'])
    assert.deepEqual(progress, { what: 'folding adapters', done: 3, total: 10 })
    for (const second of [merge('calm'), unmerge()]) {
      await assert.rejects(second, { code: 'merge_in_progress' })
    }
    next.loading.resolve()
    assert.equal((await within10(first)).outcome, 'merged')
    assert.equal(client.mergeStatus.phase, 'idle')
  })

  it('waits for a replacement that is under way', async () => {
    const { merge, started, client, engines } = createWorld({}, false)
    const replacing = client.replace((options) => {
      return { ...options, adapterModules: ['q_proj', 'up_proj'] }
    })
    const second = await within10(started(2))
    const merging = merge('safe')
    await turn()
    assert.equal(engines.length, 2)
    second.loading.resolve()
    await within10(replacing)
    const third = await within10(started(3))
    third.loading.resolve()
    await within10(merging)
    assert.ok(third.options.adapterModules.includes('q_proj'))
  })

  it('drains first where it is asked to; requests are told to come again', async () => {
    const { merge, started, engines, asked, client, told } = createWorld({ available: 0 }, false)
    const changing = merge('safe', 1, true)
    while (!engines[0]!.isAskedToEnd) await turn()
    assert.equal(client.mergeStatus.phase, 'draining')
    assert.equal(await asked(), 'model_loading')
    await assert.rejects(client.listAdapters(), { code: 'model_loading' })
    assert.equal(client.state, 'loading')
    assert.equal(engines.length, 1, 'nothing starts beside it')
    engines[0]!.drained.resolve()
    const next = await within10(started(2))
    assert.equal(await asked(), 'model_loading')
    next.loading.resolve()
    assert.equal((await within10(changing)).outcome, 'merged')
    assert.equal(await asked(), 'engine 2')
    assert.equal(client.state, 'ready')
    assert.equal(told.filter((line) => line.startsWith('engineState')).at(-1), 'engineState ready')
  })
})

describe('a change of the weights that fails leaves the engine from before', () => {
  async function failsWith(
    { code, message = /./ }: { code: string; message?: RegExp },
    faults: Partial<Faults>,
    act: (world: ReturnType<typeof createWorld>) => Promise<unknown> = ({ merge }) => merge('safe'),
  ) {
    const world = createWorld(faults)
    const expected: object = { code, message }
    await assert.rejects(within10(act(world)), expected)
    assert.equal(await world.asked(), 'engine 1')
    assert.deepEqual(world.client.model!.merged, [])
    const { phase, change, last } = world.client.mergeStatus
    assert.deepEqual([phase, change, last!.error!.code], ['idle', null, code])
    assert.ok(world.told.includes('mergeEnded refused'))
    for (const { isForced } of world.engines.slice(1)) assert.ok(isForced, 'the next one is ended')
    // And nothing is in the way of another change.
    world.faults.bias = {}
    world.faults.crashed.clear()
    world.faults.available = 1e12
    world.faults.digests = {}
    assert.equal((await within10(world.merge('safe'))).outcome, 'merged')
  }

  it('its numbers are too far off', () =>
    failsWith(
      { code: 'merge_unverified', message: /differ by 0\.010.*0\.0001/ },
      { bias: { 2: 0.01 } },
    ))

  it('its numbers are none', () =>
    failsWith({ code: 'merge_unverified' }, { bias: { 2: Number.NaN } }))

  it('it dies while it is compared', () =>
    failsWith({ code: 'merge_failed', message: /stay as they are/ }, { crashed: new Set([2]) }))

  it('there is no memory for two, and the sum is told', async () => {
    const message = /needs 7 MiB \(weights 4,.*and 1 MiB are free.*"drain"/
    const faults = { available: 1 << 20 }
    await failsWith({ code: 'memory_full', message }, faults, async ({ merge, engines }) => {
      await merge('safe').finally(() => assert.equal(engines.length, 1, 'nothing was started'))
    })
  })

  it('there is no such adapter', () =>
    failsWith({ code: 'model_not_found' }, {}, ({ merge }) => merge('missing')))

  it('what is to be unmerged is not merged', () =>
    failsWith({ code: 'adapter_not_merged' }, {}, ({ unmerge }) => unmerge('safe')))

  it('the next engine does not start', async () => {
    const { merge, started, asked, client } = createWorld({}, false)
    const merging = merge('safe')
    const next = await within10(started(2))
    next.loading.reject(new ServerError('invalid_config', 'The disk of /cache filled up.'))
    await assert.rejects(within10(merging), { code: 'merge_failed', message: /filled up/ })
    assert.equal(await asked(), 'engine 1')
    assert.equal(client.state, 'ready')
  })

  it('an adapter cannot be folded', async () => {
    const { merge, started, asked } = createWorld({}, false)
    const merging = merge('safe')
    const next = await within10(started(2))
    next.loading.reject(new ServerError('invalid_adapter', 'Folded it makes a weight Infinity.'))
    await assert.rejects(within10(merging), { code: 'invalid_adapter' })
    assert.equal(await asked(), 'engine 1')
  })

  it('after a drain: one with the former weights is started', async () => {
    const { merge, started, engines, asked, client } = createWorld({ bias: { 2: 1 } }, false)
    const changing = merge('safe', 1, true)
    changing.catch(() => {})
    engines[0]!.drained.resolve()
    ;(await within10(started(2))).loading.resolve()
    const third = await within10(started(3))
    assert.equal(await asked(), 'model_loading')
    third.loading.resolve()
    await assert.rejects(within10(changing), { code: 'merge_unverified' })
    assert.deepEqual([third.options.merged, engines[1]!.isForced], [[], true])
    assert.equal(await asked(), 'engine 3')
    assert.equal(client.state, 'ready')
  })

  it('the server ends meanwhile', async () => {
    const { merge, started, client, engines } = createWorld({}, false)
    const merging = merge('safe')
    merging.catch(() => {})
    const next = await within10(started(2))
    const closing = client.close({ force: true })
    next.loading.reject(new ServerError('shutting_down', 'The server is shutting down.'))
    await within10(closing)
    await assert.rejects(within10(merging), { code: 'shutting_down' })
    assert.ok(engines.every(({ isAskedToEnd }) => isAskedToEnd))
  })

  it('the folder has another version of what the weights hold', async () => {
    const { merge, unmerge, faults, asked } = createWorld()
    await within10(merge('safe'))
    faults.digests = { safe: 'f'.repeat(64) }
    await assert.rejects(within10(merge('safe', 2)), { code: 'adapter_conflict' })
    assert.equal(await asked(), 'engine 2')
    await within10(unmerge())
    assert.equal((await within10(merge('safe', 2))).merged[0]!.digest, 'f'.repeat(64))
  })

  it('the weights hold four already', async () => {
    const { merge } = createWorld()
    for (const id of ['a', 'bb', 'ccc', 'dddd']) await within10(merge(id))
    await assert.rejects(within10(merge('eeeee')), { code: 'adapter_conflict' })
    assert.equal((await within10(merge('a', 2))).merged.length, 4)
  })
})
