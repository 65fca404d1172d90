// Several upstreams: where an adapter lies, who takes what another has not begun, and whose fault a failure is.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { FakeVllm } from './support/fake-vllm.ts'
import { createRequest } from './support/scripted-model.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { failureIn, type World } from './support/upstream-world.ts'
import { createWorlds, withAdapter } from './support/upstream-worlds.ts'

const { startFake, start } = createWorlds(createTempFolder())

/** Of another client each: without an adapter, they choose the upstream. */
const turnOf = (i: number) => ({ client: `client ${i}`, request: `${i}` })

/** Ports are part of who is chosen: of so many, some choose each. */
const manyClients = 50

/** Clients ask, none in vain, until three faults have shut it; then it is asked no more for a while. */
async function runUntilShut(world: World, ill: FakeVllm): Promise<void> {
  const run = async (i: number) => {
    const request = createRequest({ id: `${i}`, turn: turnOf(i) })
    assert.equal(failureIn(await world.run(request)), null)
  }
  let numRun = 0
  while (ill.completions().length < 3) {
    assert.ok(numRun < manyClients)
    await run(numRun++)
  }
  for (let more = 0; more < 6; more++) await run(numRun++)
  assert.equal(ill.completions().length, 3)
}

describe('several upstreams', () => {
  it('an adapter lies in one of them, and all of them serve', async () => {
    const both = [await startFake(), await startFake(), await startFake()]
    const world = await start(both)
    for (let turn = 0; turn < 3; turn++) {
      for (let i = 1; i <= 6; i++) await world.run(withAdapter(`${turn} ${i}`, `a${i}`))
    }
    const real = (fake: FakeVllm) =>
      [...fake.adapters.keys()].filter((name) => !name.startsWith('blank'))
    assert.equal(both.flatMap(real).length, 6)
    for (let i = 1; i <= manyClients; i++) {
      await world.run(createRequest({ id: `${i}`, turn: turnOf(i) }))
    }
    assert.ok(both.every((fake) => fake.completions().some(({ body }) => body.model === fake.base)))
  })

  it('more than its share of one adapter goes to the others', async () => {
    const both = [await startFake(), await startFake()]
    const world = await start(both)
    const all = Array.from({ length: 8 }, (_, i) => world.run(withAdapter(`${i}`, 'a1')))
    for (const events of await Promise.all(all)) assert.equal(failureIn(events), null)
    assert.ok(both.every((fake) => fake.completions().length >= 2))
  })

  it('one that dies before the first token loses no request', async () => {
    const both = [await startFake(), await startFake()]
    const world = await start(both)
    for (let i = 1; i <= 6; i++) await world.run(withAdapter(`warm ${i}`, `a${i}`))
    both[0]!.state.isDead = true
    for (let i = 1; i <= 6; i++) {
      assert.equal(failureIn(await world.run(withAdapter(`${i}`, `a${i}`))), null)
    }
  })

  it('one that dies while an adapter is registered there loses no request', async () => {
    const both = [await startFake(), await startFake()]
    const world = await start(both)
    both[0]!.state.isDead = true
    for (let i = 1; i <= 6; i++) {
      assert.equal(failureIn(await world.run(withAdapter(`${i}`, `a${i}`))), null)
    }
  })

  it('one whose engine ends before the first token, and says so in a stream, loses no request', async () => {
    const both = [await startFake(), await startFake()]
    const world = await start(both)
    const error = {
      message: 'EngineDeadError',
      type: 'InternalServerError',
      param: null,
      code: 500,
    }
    const [ill] = both
    ill!.state.events = [{ error }]
    ill!.state.answer = ({ path }) =>
      path === '/health' ? { status: 503, body: { error } } : undefined
    for (let i = 1; i <= 6; i++) {
      assert.equal(failureIn(await world.run(createRequest({ id: `${i}`, turn: turnOf(i) }))), null)
    }
  })

  const notBegun = {
    'a finish that was not asked for': [
      { index: 0, text: '', token_ids: [], finish_reason: 'abort' },
    ],
    'no choice at all': [],
  }
  for (const [title, choices] of Object.entries(notBegun)) {
    it(`one that is being shut down, and begins nothing new (${title}), loses no request`, async () => {
      const both = [await startFake(), await startFake()]
      const world = await start(both)
      const [ill] = both
      ill!.state.events = [{ model: ill!.base, choices, usage: { prompt_tokens: 3 } }]
      await runUntilShut(world, ill!)
    })
  }

  it('one that loads no adapter any more loses no request; where none loads it, that is told', async () => {
    const both = [await startFake(), await startFake()]
    const world = await start(both)
    const refuseLoads = ({ state }: FakeVllm) => {
      state.answer = ({ path }) =>
        path === '/v1/load_lora_adapter' ? { status: 500, body: {} } : undefined
    }
    refuseLoads(both[0]!)
    for (let i = 1; i <= 5; i++) {
      assert.equal(failureIn(await world.run(withAdapter(`${i}`, `a${i}`))), null)
    }
    refuseLoads(both[1]!)
    const failure = failureIn(await world.run(withAdapter('6', 'a6')))
    assert.equal(failure?.code, 'adapter_unavailable')
  })

  it('a request on which all fail, in good health, shuts none of them', async () => {
    const both = [await startFake(), await startFake(), await startFake()]
    const world = await start(both)
    const isBad = (body: Record<string, unknown>) => body.max_tokens === 13
    for (const { state } of both) {
      state.answer = ({ path, body }) =>
        path === '/v1/completions' && isBad(body) ? { status: 500, body: {} } : undefined
    }
    for (let i = 1; i <= 8; i++) {
      const failure = failureIn(await world.run(createRequest({ id: `bad ${i}`, maxTokens: 13 })))
      assert.equal(failure?.code, 'server_error')
      assert.equal(failureIn(await world.run(createRequest({ id: `good ${i}` }))), null)
    }
    // Two are asked, and no third.
    assert.equal(
      both.flatMap((fake) => fake.completions().filter(({ body }) => isBad(body))).length,
      16,
    )
    assert.deepEqual(world.outages, [])
  })

  it('one that fails where another does not is asked no more for a while', async () => {
    const both = [await startFake(), await startFake()]
    const world = await start(both)
    const [ill] = both
    ill!.state.answer = ({ path }) =>
      path === '/v1/completions' ? { status: 500, body: {} } : undefined
    await runUntilShut(world, ill!)
  })

  it('one that takes calls and never answers holds no start up', async () => {
    const both = [await startFake(), await startFake()]
    both[0]!.state.isStopped = true
    const world = await start(both, { healthTimeoutMs: 1000 })
    assert.ok(world.notices.some((notice) => notice.startsWith(both[0]!.url)))
    assert.equal(failureIn(await world.run(createRequest({ id: '1' }))), null)
    both[0]!.state.isStopped = false
    await world.untilNotice(/it serves again/)
  })

  it('what was asked of one that stands still ends when it is given up, and blocks nothing afterwards', async () => {
    const one = await startFake({ maxLoras: 1 })
    const world = await start([one], { healthTimeoutMs: 300 })
    await world.run(withAdapter('1', 'a1'))
    one.state.isStopped = true
    // Each is another adapter: to be loaded, and the one before to be unloaded.
    const all = [2, 3, 4].map((i) => world.run(withAdapter(`${i}`, `a${i}`)))
    await world.until('an outage', () => world.outages.length > 0)
    for (const events of await Promise.all(all)) {
      assert.equal(failureIn(events)?.code, 'upstream_unavailable')
    }
    one.state.isStopped = false
    await world.until('its end', () => world.outages.length > 1)
    assert.equal(failureIn(await world.run(withAdapter('5', 'a5'))), null)
  })

  it('one that is another after a start that nobody saw is not used', async () => {
    const both = [await startFake(), await startFake()]
    const world = await start(both)
    both[0]!.state.seed = 7
    both[0]!.restart()
    await world.untilNotice(/is not used: .*fingerprint/)
    const { length: before } = both[0]!.completions()
    for (let i = 1; i <= 6; i++) await world.run(withAdapter(`${i}`, `a${i}`))
    assert.equal(both[0]!.completions().length, before)
  })

  it('one that comes back as another base is not used', async () => {
    const both = [await startFake(), await startFake()]
    const world = await start(both)
    both[0]!.state.isDead = true
    await world.run(createRequest({ id: 'until it is seen' }))
    await world.untilNotice(/does not answer; no request/)
    both[0]!.state.seed = 7
    both[0]!.restart()
    await world.untilNotice(/is not used: .*fingerprint/)
    const { length: before } = both[0]!.completions()
    for (let i = 1; i <= 6; i++) await world.run(withAdapter(`${i}`, `a${i}`))
    assert.equal(both[0]!.completions().length, before)
  })
})
