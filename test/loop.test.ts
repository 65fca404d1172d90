// The loop over a scripted model: whatever happens, every request ends in exactly one terminal
// event and lets go of its adapters exactly once.

import assert from 'node:assert/strict'
import { describe, it, mock } from 'node:test'
import { type GenerationEvent, isTerminal } from '../server/contracts/generation.ts'
import { createDeferred } from '../server/engine-client/deferred.ts'
import { within } from './support/deadline.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import {
  certain,
  chaotic,
  createRequest,
  createTestLoop,
  eos,
  type Logits,
  numbered,
  replying,
  textOf,
  vocabSize,
} from './support/scripted-model.ts'

type TestLoop = ReturnType<typeof createTestLoop>

/** The order that contracts/generation.ts promises, and one release. */
function assertWellFormed(world: TestLoop, id: string, n = 1): GenerationEvent {
  const events = world.events(id)
  const last = events.at(-1)
  assert.ok(last, `${id} was told nothing`)
  assert.equal(events.filter(isTerminal).length, 1, `${id} has one terminal event`)
  assert.ok(isTerminal(last), `${id}'s terminal event is the last`)
  assert.equal(world.numReleases(id), 1, `${id} was released once`)
  const finished = new Set<number>()
  for (const event of events) {
    if (event.kind !== 'delta' && event.kind !== 'choice_finished') continue
    assert.ok(!finished.has(event.index), `${id}: choice ${event.index} spoke after its end`)
    if (event.kind === 'choice_finished') finished.add(event.index)
  }
  if (last.kind === 'done') assert.equal(finished.size, n)
  return last
}

const endOf = (events: readonly GenerationEvent[], index = 0) => {
  const end = events.find((event) => event.kind === 'choice_finished' && event.index === index)
  assert.ok(end?.kind === 'choice_finished', 'the choice did not finish')
  return end
}

const text = (prompt: string) => ({ kind: 'text', text: prompt }) as const

describe('how a request ends', () => {
  it('by its end token', async () => {
    const world = createTestLoop({ logits: replying({ 'hi:': 'Hello 🙂' }) })
    world.submit(createRequest({ id: 'a', prompt: text('hi:') }))
    const events = await world.ended('a')
    assert.equal(textOf(events), 'Hello 🙂')
    assert.equal(endOf(events).reason, 'stop')
    assert.equal(endOf(events).stopReason, null)
    assert.equal(endOf(events).usage.completionTokens, 11)
    assert.equal(assertWellFormed(world, 'a').kind, 'done')
  })

  it('by its length', async () => {
    const world = createTestLoop({ logits: replying({ 'hi:': 'Hello there' }) })
    world.submit(createRequest({ id: 'a', prompt: text('hi:'), maxTokens: 5 }))
    const events = await world.ended('a')
    assert.equal(textOf(events), 'Hello')
    assert.equal(endOf(events).reason, 'length')
    assertWellFormed(world, 'a')
  })

  it('with its first token when only one is asked for', async () => {
    const world = createTestLoop({ logits: replying({ 'hi:': 'Hello' }) })
    world.submit(createRequest({ id: 'a', prompt: text('hi:'), maxTokens: 1 }))
    assert.equal(textOf(await world.ended('a')), 'H')
    assertWellFormed(world, 'a')
  })

  it('by a stop string', async () => {
    const world = createTestLoop({ logits: replying({ 'hi:': 'Hello there' }) })
    const sampling = { stop: ['o t'] }
    world.submit(createRequest({ id: 'a', prompt: text('hi:'), sampling }))
    const events = await world.ended('a')
    assert.equal(textOf(events), 'Hell')
    assert.equal(endOf(events).stopReason, 'o t')
    assertWellFormed(world, 'a')
  })

  it('cancelled before its first step, while another one computes', async () => {
    const gate = createDeferred<void>()
    const world = createTestLoop({ rows: 1, beforeRun: () => gate.promise })
    world.submit(createRequest({ id: 'running', maxTokens: 3 }))
    world.submit(createRequest({ id: 'waiting' }))
    world.loop.cancel('waiting')
    world.loop.cancel('waiting')
    gate.resolve()
    assert.deepEqual(await world.ended('waiting'), [{ kind: 'cancelled' }])
    await world.ended('running')
    assertWellFormed(world, 'waiting')
    assert.equal(assertWellFormed(world, 'running').kind, 'done')
  })

  it('cancelled in the middle of its prompt', async () => {
    const world: TestLoop = createTestLoop({
      maxChunk: 2,
      beforeRun: () => world.loop.cancel('a'),
    })
    world.submit(createRequest({ id: 'a', prompt: text('a long prompt') }))
    assert.deepEqual(await world.ended('a'), [{ kind: 'cancelled' }])
    assertWellFormed(world, 'a')
  })

  it('cancelled mid-way, within one step', async () => {
    let numRuns = 0
    const world: TestLoop = createTestLoop({
      beforeRun: () => {
        if (++numRuns === 4) world.loop.cancel('a')
      },
    })
    world.submit(createRequest({ id: 'a', maxTokens: 40 }))
    const events = await world.ended('a')
    assert.equal(events.filter(({ kind }) => kind === 'delta').length, 4)
    assert.equal(assertWellFormed(world, 'a').kind, 'cancelled')
  })

  it('a cancel after the end, or of an unknown request, is nothing', async () => {
    const world = createTestLoop()
    world.submit(createRequest({ id: 'a', maxTokens: 2 }))
    await world.ended('a')
    world.loop.cancel('a')
    world.loop.cancel('nobody')
    world.submit(createRequest({ id: 'b', maxTokens: 2 }))
    await world.ended('b')
    assertWellFormed(world, 'a')
    assert.equal(assertWellFormed(world, 'b').kind, 'done')
  })
})

describe('when something breaks', () => {
  const sick: Logits = (context, components) => {
    const isSick = context[0] === 'x'.charCodeAt(0) && context.length >= 5
    return isSick ? new Float32Array(vocabSize).fill(Number.NaN) : chaotic(context, components)
  }

  it('a row without numbers fails its own request only', async () => {
    const alone = createTestLoop({ logits: sick })
    alone.submit(createRequest({ id: 'well', prompt: text('yz') }))
    const want = textOf(await alone.ended('well'))

    const world = createTestLoop({ logits: sick })
    world.submit(createRequest({ id: 'sick', prompt: text('xx') }))
    world.submit(createRequest({ id: 'well', prompt: text('yz') }))
    const end = (await world.ended('sick')).at(-1)
    assert.ok(end?.kind === 'failed')
    assert.equal(end.error.code, 'numerical_error')
    assert.equal(textOf(await world.ended('well')), want)
    assertWellFormed(world, 'sick')
    assert.equal(assertWellFormed(world, 'well').kind, 'done')
  })

  it('one sick choice ends the request and its other choices', async () => {
    const world = createTestLoop({ logits: sick })
    world.submit(createRequest({ id: 'sick', n: 3, prompt: text('xx') }))
    const events = await world.ended('sick')
    assert.equal(events.at(-1)?.kind, 'failed')
    assert.equal(world.loop.stats().running + world.loop.stats().waiting, 0)
    assertWellFormed(world, 'sick', 3)
  })

  for (const [kind, title] of [
    ['prefill', 'a prefill that throws fails its request, and the running ones go on'],
    ['decode', 'a decode that throws fails the requests in it, and the next one works'],
  ] as const) {
    it(title, async () => {
      const logged = mock.method(console, 'error', () => {})
      try {
        let numRuns = 0
        const world = createTestLoop({
          logits: chaotic,
          beforeRun: (run) => {
            numRuns++
            if (numRuns >= 4 && numRuns < 6 && run.kind === kind) throw new Error('no such kernel')
          },
        })
        for (const id of ['a', 'b', 'c', 'd']) {
          world.submit(createRequest({ id, prompt: text(`${id} asks`), maxTokens: 12 }))
        }
        const ends: string[] = []
        for (const id of ['a', 'b', 'c', 'd']) {
          const end = (await world.ended(id)).at(-1)
          ends.push(end?.kind ?? '')
          assertWellFormed(world, id)
          if (end?.kind !== 'failed') continue
          assert.equal(end.error.code, 'server_error')
          assert.doesNotMatch(end.error.message, /kernel/)
        }
        assert.ok(ends.includes('failed') && ends.includes('done'), ends.join())
        world.submit(createRequest({ id: 'next', maxTokens: 2 }))
        await world.ended('next')
        assert.equal(assertWellFormed(world, 'next').kind, 'done')
        assert.ok(logged.mock.callCount() >= 1)
      } finally {
        logged.mock.restore()
      }
    })
  }
})

describe('several choices', () => {
  it('each speak for themselves and the request ends once, after the last', async () => {
    const world = createTestLoop({ rows: 2, logits: chaotic })
    const sampling = { temperature: 1, seed: 5n }
    world.submit(createRequest({ id: 'a', n: 5, maxTokens: 6, sampling }))
    const events = await world.ended('a')
    const texts = [0, 1, 2, 3, 4].map((index) => textOf(events, { index }))
    for (const index of [0, 1, 2, 3, 4])
      assert.equal(endOf(events, index).usage.completionTokens, 6)
    assert.equal(new Set(texts).size, 5)
    assertWellFormed(world, 'a', 5)
  })

  it('choice i is what a request of its own with seed + i gives', async () => {
    const world = createTestLoop({ rows: 3 })
    const sampling = { temperature: 1, seed: 100n }
    world.submit(createRequest({ id: 'all', n: 3, sampling }))
    const events = await world.ended('all')
    for (const index of [0, 1, 2]) {
      const id = `alone ${index}`
      const seed = 100n + BigInt(index)
      world.submit(createRequest({ id, sampling: { ...sampling, seed } }))
      assert.equal(textOf(await world.ended(id)), textOf(events, { index }))
    }
  })

  it('that end at different times give their rows to others', async () => {
    // Each choice says its own number of tokens: the end comes when the dice say so.
    const dice: Logits = (context, components) => {
      const logits = chaotic(context, components)
      logits[eos] = 9
      return logits
    }
    const world = createTestLoop({ rows: 2, logits: dice })
    const sampling = { temperature: 1.5 }
    world.submit(createRequest({ id: 'a', n: 4, maxTokens: 40, sampling }))
    world.submit(createRequest({ id: 'b', n: 3, maxTokens: 40, sampling }))
    await world.ended('a')
    await world.ended('b')
    assertWellFormed(world, 'a', 4)
    assertWellFormed(world, 'b', 3)
  })
})

describe('limits on the end', () => {
  const alwaysEnd: Logits = () => {
    const logits = certain(eos)
    logits[65] = 10
    return logits
  }

  it('min_tokens suppresses end and stop tokens until then', async () => {
    const world = createTestLoop({ logits: alwaysEnd })
    world.submit(createRequest({ id: 'a', sampling: { minTokens: 4 } }))
    const events = await world.ended('a')
    assert.equal(textOf(events), 'AAAA')
    assert.equal(endOf(events).usage.completionTokens, 5)

    world.submit(createRequest({ id: 'b', sampling: { minTokens: 4, stopTokenIds: [65] } }))
    const other = await world.ended('b')
    assert.equal(endOf(other).usage.completionTokens, 5)
    assert.doesNotMatch(textOf(other), /A/)
  })

  it('ignore_eos goes on to the length, without the end token in the text', async () => {
    const world = createTestLoop({ logits: alwaysEnd })
    world.submit(createRequest({ id: 'a', maxTokens: 6, sampling: { ignoreEos: true } }))
    const events = await world.ended('a')
    assert.equal(endOf(events).reason, 'length')
    assert.equal(endOf(events).usage.completionTokens, 6)
    assert.equal(textOf(events), '')
  })

  it('ignore_eos leaves the stop tokens that the client named', async () => {
    const world = createTestLoop({ logits: alwaysEnd })
    const sampling = { ignoreEos: true, stopTokenIds: [eos] }
    world.submit(createRequest({ id: 'a', sampling }))
    const events = await world.ended('a')
    assert.equal(endOf(events).stopReason, eos)
  })
})

describe('seeds', () => {
  it('the same seed gives the same tokens alone and in company, with other adapters beside', async () => {
    const request = (id: string) =>
      createRequest({
        id,
        prompt: text('the same question'),
        maxTokens: 20,
        sampling: { temperature: 1, topP: 0.9, seed: 77n },
      })
    const components = [{ component: numbered(3), scale: 1 }]
    const alone = createTestLoop({ rows: 1 })
    alone.submit(request('it'), { components })
    const want = textOf(await alone.ended('it'))

    const random = createRandomNumbers(1)
    for (let round = 0; round < 20; round++) {
      const world = createTestLoop({ rows: 1 + pick(random, 6), maxChunk: 1 + pick(random, 6) })
      const others = Array.from({ length: 8 }, (_, i) => `other ${i}`)
      const place = pick(random, 8)
      for (const [i, id] of others.entries()) {
        if (i === place) world.submit(request('it'), { components })
        const length = 1 + pick(random, 10)
        world.submit(
          createRequest({
            id,
            prompt: text('x'.repeat(1 + pick(random, 9))),
            maxTokens: length,
            sampling: { temperature: 1, seed: BigInt(i) },
          }),
          { components: [{ component: numbered(i), scale: i / 2 }] },
        )
      }
      assert.equal(textOf(await world.ended('it')), want)
      for (const id of others) {
        await world.ended(id)
        assertWellFormed(world, id)
      }
    }
  })
})

describe('a crowd', () => {
  it('of requests that end, fail, stop and are cancelled at random all end once', async () => {
    const logged = mock.method(console, 'error', () => {})
    try {
      for (let seed = 0; seed < 30; seed++) {
        const random = createRandomNumbers(seed)
        let numRuns = 0
        const ids = Array.from({ length: 25 }, (_, i) => `r${i}`)
        const world: TestLoop = createTestLoop({
          rows: 1 + pick(random, 5),
          maxChunk: 1 + pick(random, 4),
          beforeRun: () => {
            numRuns++
            if (random() < 0.2) world.loop.cancel(ids[pick(random, ids.length)] as string)
            if (random() < 0.02) throw new Error('broken step')
            return numRuns % 3 === 0 ? new Promise((resolve) => setImmediate(resolve)) : undefined
          },
          logits: (context, components) => {
            const logits = chaotic(context, components)
            if (random() < 0.05) logits[eos] = 100
            if (random() < 0.01) logits.fill(Number.NaN)
            return logits
          },
        })
        const counts = new Map(ids.map((id) => [id, 1 + pick(random, 3)]))
        for (const id of ids) {
          const n = counts.get(id) ?? 1
          const prompt = text('p'.repeat(1 + pick(random, 10)))
          world.submit(createRequest({ id, n, prompt, maxTokens: 1 + pick(random, 12) }))
        }
        for (const id of ids) {
          await world.ended(id)
          assertWellFormed(world, id, counts.get(id))
        }
        const { running, waiting, kvUsage } = world.loop.stats()
        assert.deepEqual([running, waiting, kvUsage], [0, 0, 0])
      }
    } finally {
      logged.mock.restore()
    }
  })
})

describe('what the loop says of itself', () => {
  it('counts running, waiting and the share of the cache in use', async () => {
    const gate = createDeferred<void>()
    const reached = createDeferred<void>()
    let numRuns = 0
    const world = createTestLoop({
      rows: 1,
      capacity: 64,
      maxChunk: 8,
      beforeRun: () => {
        if (++numRuns < 3) return undefined
        reached.resolve()
        return gate.promise
      },
    })
    world.submit(createRequest({ id: 'a', prompt: text('1234'), maxTokens: 8 }))
    world.submit(createRequest({ id: 'b', maxTokens: 1 }))
    await within(10_000, 'third step', reached.promise)
    const { running, waiting, kvUsage } = world.loop.stats()
    assert.deepEqual([running, waiting], [1, 1])
    assert.equal(kvUsage, 5 / 64)
    gate.resolve()
    await world.ended('b')
  })

  it('reports times that add up', async () => {
    const world = createTestLoop()
    world.submit(createRequest({ id: 'a', maxTokens: 4 }))
    const end = (await world.ended('a')).at(-1)
    assert.ok(end?.kind === 'done')
    for (const value of Object.values(end.timing)) assert.ok(value >= 0)
  })
})
