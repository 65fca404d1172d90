// What the front remembers of the adapters folder: when it looks again, and who waits for it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { AdapterQuery, AdapterSummary } from '../server/contracts/adapter.ts'
import { createDeferred } from '../server/engine-client/deferred.ts'
import { createAdapterList } from '../server/http/adapters/adapter-list.ts'
import { within } from './support/deadline.ts'
import { createFakeEngine } from './support/fake-engine.ts'
import { createFront, readJson } from './support/front.ts'

const summary = (id: string): AdapterSummary => ({
  id,
  kind: 'adapter',
  state: 'available',
  digest: null,
  rank: 1,
  targetModules: null,
  bytes: null,
  runningRequests: 0,
  pinned: false,
  numLayers: null,
  defaultScale: 1,
  description: null,
  base: null,
  manifest: null,
  warnings: [],
  error: null,
})

function createWorld() {
  const world = { now: 0, asked: [] as AdapterQuery[], ids: ['a'], gate: Promise.resolve() }
  const list = createAdapterList({
    engine: {
      async listAdapters(query = {}) {
        world.asked.push(query)
        const { ids } = world
        await world.gate
        return ids
          .filter((id) => query.ids?.includes(id) ?? id > (query.after ?? ''))
          .slice(0, query.limit)
          .map(summary)
      },
    },
    monotonicMs: () => world.now,
  })
  const idsOf = async (read: Promise<readonly AdapterSummary[]>) =>
    (await within(10_000, 'list', read)).map(({ id }) => id)
  return { world, list, idsOf }
}

describe('the list of adapters', () => {
  it('a name is looked for once a second, and at once where it is missing', async () => {
    const { world, list, idsOf } = createWorld()
    assert.deepEqual(await idsOf(list.read(['a', 'b'])), ['a'])
    world.ids = ['a', 'b']
    assert.deepEqual(await idsOf(list.read(['a'])), ['a'])
    assert.equal(world.asked.length, 1)
    assert.deepEqual(await idsOf(list.readKnown(['a', 'b'])), ['a', 'b'])
    // Only what is missing is asked for.
    assert.deepEqual(world.asked.at(-1), { ids: ['b'] })
    world.now = 1000
    assert.deepEqual(await idsOf(list.read(['a', 'b'])), ['a', 'b'])
    assert.equal(world.asked.length, 3)
  })

  it('a request that names nothing asks for nothing', async () => {
    const { world, list, idsOf } = createWorld()
    assert.deepEqual(await idsOf(list.readKnown([])), [])
    assert.equal(world.asked.length, 0)
  })

  it('a request for what is known does not wait for the next look, which is taken beside it', async () => {
    const { world, list, idsOf } = createWorld()
    await list.read(['a'])
    world.now = 2000
    const { promise, resolve } = createDeferred<void>()
    world.gate = promise
    assert.deepEqual(await idsOf(list.readKnown(['a'])), ['a'])
    assert.deepEqual(await idsOf(list.readKnown(['a'])), ['a'])
    // Those who wait share the look that is under way.
    const reading = list.read(['a'])
    assert.equal(world.asked.length, 2)
    resolve()
    assert.deepEqual(await idsOf(reading), ['a'])
    assert.deepEqual(await idsOf(list.read(['a'])), ['a'])
    assert.equal(world.asked.length, 2)
  })

  it('a look from before a change is not remembered, and GET of one adapter is never from memory', async () => {
    const { world, list, idsOf } = createWorld()
    const gate = createDeferred<void>()
    world.gate = gate.promise
    const early = list.read(['a'])
    list.forget('a')
    world.ids = []
    gate.resolve()
    assert.deepEqual(await idsOf(early), ['a'])
    assert.deepEqual(await idsOf(list.read(['a'])), [])
    world.ids = ['a']
    assert.deepEqual(await idsOf(list.read(['a'])), ['a'])
    world.ids = []
    assert.equal(await within(10_000, 'one adapter', list.readNow('a')), undefined)
  })

  it('what is older than some seconds is not used', async () => {
    const { world, list, idsOf } = createWorld()
    await list.read(['a'])
    world.now = 5000
    world.ids = ['b']
    assert.deepEqual(await idsOf(list.readKnown(['a'])), [])
    world.now = 5100
    assert.deepEqual(await idsOf(list.readKnown(['a'])), [])
  })

  it('a look that fails is the failure of who waits for it, and is not remembered', async () => {
    const { world, list, idsOf } = createWorld()
    await list.read(['a'])
    world.now = 2000
    world.gate = Promise.reject(new Error('engine is gone'))
    world.gate.catch(() => {})
    assert.deepEqual(await idsOf(list.readKnown(['a'])), ['a'])
    await assert.rejects(list.read(['a']), /engine is gone/)
    world.gate = Promise.resolve()
    assert.deepEqual(await idsOf(list.read(['a'])), ['a'])
  })
})

const adapterIds = ['a', 'b', 'c', 'd', 'e'] as const

function createPagedFront() {
  const engine = createFakeEngine()
  engine.adapters = adapterIds.map((id) => ({
    ...summary(id),
    ...(id === 'c' && { state: 'invalid', error: { code: 'invalid_adapter', message: 'no' } }),
  }))
  const front = createFront({ engine })
  const get = async (path: string) => readJson(await front.request(path))
  return { front, get, base: engine.model!.id }
}

describe('lists in pages', () => {
  it('without a limit all comes, with first and last', async () => {
    const { get, base } = createPagedFront()
    const adapters = await get('/v1/adapters')
    assert.deepEqual(
      adapters.data.map(({ id }: AdapterSummary) => id),
      adapterIds,
    )
    const { first_id, last_id, has_more } = adapters
    assert.deepEqual([first_id, last_id, has_more], ['a', 'e', false])
    const models = await get('/v1/models')
    assert.deepEqual([models.first_id, models.last_id, models.has_more], [base, 'e', false])
  })

  it('pages of every size go through all, each once', async () => {
    const { get, base } = createPagedFront()
    for (const [path, expected] of [
      ['/v1/adapters', adapterIds],
      ['/v1/models', [base, 'a', 'b', 'd', 'e']],
    ] as const) {
      for (let limit = 1; limit <= 6; limit++) {
        const seen: string[] = []
        let after = ''
        for (let page = 0; page < 10; page++) {
          const { data, last_id, has_more } = await get(`${path}?limit=${limit}${after}`)
          assert.ok(data.length <= limit)
          seen.push(...data.map(({ id }: AdapterSummary) => id))
          after = `&after=${encodeURIComponent(last_id)}`
          if (!has_more) break
        }
        assert.deepEqual(seen, expected, `${path} by ${limit}`)
      }
    }
  })

  it('an empty page has no first and no last', async () => {
    const { get } = createPagedFront()
    const { data, first_id, last_id, has_more } = await get('/v1/adapters?after=zzz')
    assert.deepEqual([data, first_id, last_id, has_more], [[], null, null, false])
  })

  it('a limit that is none is 400 and names its bounds', async () => {
    const { front, get } = createPagedFront()
    for (const limit of ['0', '-1', '101', 'x', '1.5', '', '1e3', '99999999999']) {
      const path = `/v1/adapters?limit=${limit}`
      assert.equal((await front.request(path)).status, 400, limit)
      assert.match((await get(path)).error.message, /limit must be a whole number from 1 to 100/)
    }
  })

  it('the models say what applies where a request is silent', async () => {
    const { get, base } = createPagedFront()
    const { default_sampling_params: defaults } = await get(`/v1/models/${base}`)
    assert.equal(defaults.temperature, 0.6)
    assert.equal(defaults.repetition_penalty, 1)
  })
})
