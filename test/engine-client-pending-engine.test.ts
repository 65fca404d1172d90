// The engine that does not exist yet: loading until it does, and the end of both.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { EngineClient, EngineState } from '../server/contracts/engine.ts'
import { createDeferred } from '../server/engine-client/deferred.ts'
import { createPendingEngine } from '../server/engine-client/pending-engine.ts'
import { ServerError } from '../server/errors.ts'
import { createMetrics } from '../server/metrics/registry.ts'
import { createFakeEngine, fakeModel } from './support/fake-engine.ts'
import { createFront, goodChat } from './support/front.ts'

const createPending = () => {
  const arrival = createDeferred<EngineClient>()
  let signal: AbortSignal | undefined
  const engine = createPendingEngine({
    observer: createMetrics(),
    create(given) {
      signal = given
      return arrival.promise
    },
  })
  return { engine, arrival, isAborted: () => signal?.aborted }
}

const hasCode = (code: string) => (error: unknown) =>
  error instanceof ServerError && error.code === code

describe('a pending engine', () => {
  it('is an engine that loads until the real one takes over', async () => {
    const { engine, arrival } = createPending()
    const front = createFront({ engine: engine as never })
    assert.equal(engine.state, 'loading' satisfies EngineState)
    assert.equal((await front.request('/health/ready')).status, 503)
    assert.equal((await front.post('/v1/chat/completions', goodChat)).status, 503)
    await assert.rejects(engine.listAdapters(), hasCode('model_loading'))

    const ready = engine.ready()
    arrival.resolve(createFakeEngine())
    assert.equal(await ready, fakeModel)
    assert.equal(engine.state, 'ready')
    assert.equal((await front.request('/health/ready')).status, 200)
    assert.equal((await front.post('/v1/chat/completions', goodChat)).status, 200)
  })

  it('ends a request that comes too early in one terminal event', async () => {
    const { engine } = createPending()
    const events = []
    for await (const event of engine.submit({ id: 'r' } as never).events) events.push(event)
    assert.deepEqual(
      events.map((event) => event.kind === 'failed' && event.error.code),
      ['model_loading'],
    )
  })

  it('that cannot be created says why', async () => {
    const { engine, arrival } = createPending()
    arrival.reject(new ServerError('hub_not_found', 'no such model'))
    await assert.rejects(engine.ready(), hasCode('hub_not_found'))
    await engine.close({ force: true })
  })

  it('that is closed ends its creation and is stopped', async () => {
    const { engine, arrival, isAborted } = createPending()
    const closed = engine.close({ force: true })
    assert.equal(isAborted(), true)
    arrival.reject(new Error('aborted'))
    await closed
    assert.equal(engine.state, 'stopped')
    await assert.rejects(engine.ready(), hasCode('shutting_down'))
    await assert.rejects(
      engine.detokenize([1], { client: 'client', request: 'text' }),
      hasCode('shutting_down'),
    )
  })

  it('that comes after it was closed is closed at once', async () => {
    const { engine, arrival } = createPending()
    const real = createFakeEngine()
    const closed = engine.close({ force: true })
    arrival.resolve(real)
    await closed
    assert.equal(real.isClosed, true)
  })
})
