// What the front remembers of the adapters folder: when it looks again, and who waits for it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { AdapterSummary } from '../server/contracts/adapter.ts'
import { createDeferred } from '../server/engine-client/deferred.ts'
import { createAdapterList } from '../server/http/adapter-list.ts'
import { within } from './support/deadline.ts'

const summary = (id: string): AdapterSummary => ({
  id,
  state: 'available',
  digest: null,
  rank: 1,
  targetModules: null,
  numLayers: null,
  defaultScale: 1,
  description: null,
  manifest: null,
  warnings: [],
  error: null,
})

function createWorld() {
  const world = { now: 0, numLooks: 0, ids: ['a'], gate: Promise.resolve() }
  const list = createAdapterList({
    engine: {
      async listAdapters() {
        world.numLooks++
        const { ids } = world
        await world.gate
        return ids.map(summary)
      },
    },
    monotonicMs: () => world.now,
  })
  const idsOf = async (read: Promise<readonly AdapterSummary[]>) =>
    (await within(10_000, 'list', read)).map(({ id }) => id)
  return { world, list, idsOf }
}

describe('the list of adapters', () => {
  it('is looked at once a second, and at once for a name that is missing', async () => {
    const { world, list, idsOf } = createWorld()
    assert.deepEqual(await idsOf(list.read()), ['a'])
    world.ids = ['a', 'b']
    assert.deepEqual(await idsOf(list.read(['a'])), ['a'])
    assert.equal(world.numLooks, 1)
    assert.deepEqual(await idsOf(list.readKnown(['b'])), ['a', 'b'])
    world.now = 1000
    assert.deepEqual(await idsOf(list.read()), ['a', 'b'])
    assert.equal(world.numLooks, 3)
  })

  it('a request for what is known does not wait for the next look, which is taken beside it', async () => {
    const { world, list, idsOf } = createWorld()
    await list.read()
    world.now = 2000
    world.ids = ['a', 'b']
    const { promise, resolve } = createDeferred<void>()
    world.gate = promise
    assert.deepEqual(await idsOf(list.readKnown(['a'])), ['a'])
    assert.deepEqual(await idsOf(list.readKnown([])), ['a'])
    assert.equal(world.numLooks, 2)
    resolve()
    assert.deepEqual(await idsOf(list.read()), ['a', 'b'])
    assert.deepEqual(await idsOf(list.readKnown(['a'])), ['a', 'b'])
    assert.equal(world.numLooks, 2)
  })

  it('what is older than some seconds is not used', async () => {
    const { world, list, idsOf } = createWorld()
    await list.read()
    world.now = 5000
    world.ids = ['b']
    assert.deepEqual(await idsOf(list.readKnown(['a'])), ['b'])
  })

  it('a look that fails is the failure of who waits for it, and is not remembered', async () => {
    const { world, list, idsOf } = createWorld()
    await list.read()
    world.now = 2000
    world.gate = Promise.reject(new Error('engine is gone'))
    world.gate.catch(() => {})
    assert.deepEqual(await idsOf(list.readKnown(['a'])), ['a'])
    await assert.rejects(list.read(), /engine is gone/)
    world.gate = Promise.resolve()
    assert.deepEqual(await idsOf(list.read()), ['a'])
  })
})
