// Answers that a grammar acts on, in a batch with others: what each says keeps to its grammar, is the same
// alone and in company, however late its grammar answers, and rows without one say what they said before.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { OutputConstraint } from '../server/contracts/constraint.ts'
import type { GenerationEvent } from '../server/contracts/generation.ts'
import { ServerError } from '../server/errors.ts'
import {
  adaptersOf,
  bytesOf,
  certain,
  chaotic,
  createRequest,
  createTestLoop,
  eos,
  numbered,
  replying,
  setOf,
  testGuard,
  textOf,
  thoughtEnd,
  thoughtStart,
} from './support/scripted-model.ts'
import { testGrammar } from './support/test-grammar.ts'

const list: OutputConstraint = { kind: 'regex', pattern: '(\\[[a-f]{2,5}\\]){3,4}' }
const isList = /^(\[[a-f]{2,5}\]){3,4}$/
const sampled = { temperature: 1.3, topP: 0.95, topK: 40 }

function endOf(events: readonly GenerationEvent[], index = 0) {
  const end = events.find((event) => event.kind === 'choice_finished' && event.index === index)
  assert.ok(end?.kind === 'choice_finished')
  return end
}

function tokensOf(events: readonly GenerationEvent[], index = 0): number[] {
  return events.flatMap((event) =>
    event.kind === 'delta' && event.index === index
      ? (event.logprobs ?? []).map(({ id }) => id)
      : [],
  )
}

/** Tells when it is asked, a few turns of the event loop later. */
function later(turns: number) {
  return async () => {
    for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve))
  }
}

describe('a constrained answer', () => {
  it('keeps to its grammar, and ends where it may', async () => {
    const world = createTestLoop()
    const request = createRequest({ sampling: sampled, maxTokens: 40, n: 3 })
    world.submit(request, { grammar: testGrammar(list) })
    const events = await world.ended('request')
    const texts = [0, 1, 2].map((index) => textOf(events, { index }))
    for (const [index, text] of texts.entries()) {
      assert.match(text, isList)
      assert.equal(endOf(events, index).reason, 'stop')
    }
    assert.ok(new Set(texts).size > 1, 'each choice has its own seed')
  })

  it('that max_tokens cuts is cut', async () => {
    const world = createTestLoop()
    world.submit(createRequest({ maxTokens: 5 }), { grammar: testGrammar(list) })
    const events = await world.ended('request')
    assert.match(textOf(events), /^\[[a-f\]]{4}$/)
    assert.equal(endOf(events).reason, 'length')
  })

  it('ends at a stop string, and by end tokens only where its grammar may end', async () => {
    // It would end after each bracket.
    const world = createTestLoop({
      logits: (context) => certain(context.at(-1) === bytesOf(']')[0] ? eos : bytesOf('a')[0]!),
    })
    world.submit(createRequest({ id: 'end', maxTokens: 40 }), { grammar: testGrammar(list) })
    world.submit(createRequest({ id: 'stop', maxTokens: 40, sampling: { stop: [']['] } }), {
      grammar: testGrammar(list),
    })
    assert.match(textOf(await world.ended('end')), isList)
    const stopped = await world.ended('stop')
    assert.match(textOf(stopped), /^\[[a-f]{2,5}$/)
    assert.equal(endOf(stopped).stopReason, '][')
  })

  it('ends by itself where the model has no end token, and min_tokens gives way', async () => {
    for (const sampling of [{ ignoreEos: true }, { minTokens: 30 }]) {
      const world = createTestLoop()
      const request = createRequest({ maxTokens: 40, sampling })
      world.submit(request, { grammar: testGrammar({ kind: 'choice', choices: ['yes', 'no'] }) })
      const events = await world.ended('request')
      assert.match(textOf(events), /^(yes|no)$/)
      assert.equal(endOf(events).reason, 'stop')
    }
  })

  it('is told with the logprobs of the model itself, as without a grammar', async () => {
    const world = createTestLoop({ logits: () => certain(bytesOf('z')[0]!) })
    const request = createRequest({ maxTokens: 1, topLogprobs: 1 })
    world.submit(request, { grammar: testGrammar(list) })
    const [delta] = (await world.ended('request')).filter(({ kind }) => kind === 'delta')
    assert.ok(delta?.kind === 'delta')
    const [token] = delta.logprobs!
    assert.equal(token?.token, '[')
    assert.ok(token.logprob < -49)
    assert.equal(token.top[0]?.token, 'z')
  })

  it('is the same alone and in company, early and late, preempted or not', async () => {
    const makeRequest = (i: number) =>
      createRequest({
        ...{ id: `r${i}`, prompt: { kind: 'text', text: `p${i}` }, maxTokens: 30, topLogprobs: 0 },
        sampling: { ...sampled, seed: BigInt(i) },
      })
    const alone = new Map<number, number[]>()
    for (let i = 0; i < 6; i++) {
      const world = createTestLoop()
      world.submit(makeRequest(i), i % 2 === 0 ? { grammar: testGrammar(list) } : {})
      alone.set(i, tokensOf(await world.ended(`r${i}`)))
    }
    for (const turns of [0, 1, 7]) {
      let numDecoded = 0
      const world = createTestLoop({
        ...{ rows: 4, capacity: 64, kvPositions: 110 },
        beforeRun: ({ kind }) => kind === 'decode' && numDecoded++,
      })
      const wait = turns === 0 ? {} : { wait: later(turns) }
      for (let i = 0; i < 6; i++) {
        world.submit(makeRequest(i), i % 2 === 0 ? { grammar: testGrammar(list, wait) } : {})
      }
      for (let i = 0; i < 6; i++) {
        const events = await world.ended(`r${i}`)
        assert.deepEqual(tokensOf(events), alone.get(i), `r${i}, ${turns} turns late`)
        if (i % 2 === 0) assert.match(textOf(events), isList)
      }
      assert.ok(numDecoded > 0)
    }
  })

  it('that waits for its grammar does not hold up a row that has none', async () => {
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const world = createTestLoop()
    world.submit(createRequest({ id: 'late', maxTokens: 30 }), {
      grammar: testGrammar(list, { wait: () => held }),
    })
    world.submit(createRequest({ id: 'free', maxTokens: 30 }))
    const free = await world.ended('free')
    assert.equal(endOf(free).reason, 'length')
    assert.ok(!world.events('late').some(({ kind }) => kind === 'done'))
    release()
    assert.match(textOf(await world.ended('late')), isList)
  })

  it('whose grammar fails ends with an error; its neighbours go on', async () => {
    const world = createTestLoop()
    const wait = async () => {
      throw new ServerError('server_error', 'The grammar failed.')
    }
    world.submit(createRequest({ id: 'bad', maxTokens: 30 }), {
      grammar: testGrammar(list, { wait }),
    })
    world.submit(createRequest({ id: 'good', maxTokens: 30 }), { grammar: testGrammar(list) })
    const failed = (await world.ended('bad')).at(-1)
    assert.ok(failed?.kind === 'failed')
    assert.equal(failed.error.message, 'The grammar failed.')
    assert.match(textOf(await world.ended('good')), isList)
    assert.deepEqual(world.loop.stats().running, 0)
  })

  it('that is cancelled while it waits is gone', async () => {
    const world = createTestLoop()
    world.submit(createRequest({ id: 'late', maxTokens: 30 }), {
      grammar: testGrammar(list, { wait: later(3) }),
    })
    await later(2)()
    world.loop.cancel('late')
    assert.equal((await world.ended('late')).at(-1)?.kind, 'cancelled')
    assert.equal(world.numReleases('late'), 1)
  })
})

describe('a thought before a constrained answer', () => {
  const thinks = { splitReasoning: true, maxTokens: 60, topLogprobs: 0 }
  const thought = bytesOf('Free {text} here.')

  it('is free; the grammar begins behind its end', async () => {
    const logits = replying({ hi: [...thought, thoughtEnd, ...bytesOf('free')] })
    for (const phase of ['opened', 'thinking'] as const) {
      const world = createTestLoop({ logits })
      world.submit(createRequest(thinks), { grammar: testGrammar(list), phase })
      const events = await world.ended('request')
      assert.equal(textOf(events, { section: 'reasoning' }), 'Free {text} here.')
      assert.match(textOf(events), isList)
    }
  })

  it('may be opened by the reply itself, as its first token', async () => {
    const logits = replying({ hi: [thoughtStart, ...thought, thoughtEnd, ...bytesOf('free')] })
    const world = createTestLoop({ logits })
    world.submit(createRequest(thinks), { grammar: testGrammar(list), phase: 'beginning' })
    const events = await world.ended('request')
    assert.equal(textOf(events, { section: 'reasoning' }), 'Free {text} here.')
    assert.match(textOf(events), isList)
  })

  it('is not waited for: an answer that opens none is told as it comes', async () => {
    const world = createTestLoop({ logits: replying({ hi: 'free' }) })
    world.submit(createRequest(thinks), { grammar: testGrammar(list), phase: 'beginning' })
    const events = await world.ended('request')
    assert.match(textOf(events), isList)
    const deltas = events.filter(({ kind }) => kind === 'delta')
    assert.ok(deltas.length > 5, `${deltas.length} deltas`)
    assert.equal(endOf(events).usage.reasoningTokens, 0)
  })

  it('where thinking is off there is none', async () => {
    const world = createTestLoop({ logits: replying({ hi: [thoughtStart, ...thought] }) })
    world.submit(createRequest(thinks), { grammar: testGrammar(list), phase: 'closed' })
    const events = await world.ended('request')
    assert.equal(textOf(events, { section: 'reasoning' }), '')
    assert.match(textOf(events), isList)
  })
})

describe('a constrained answer that is judged', () => {
  it('goes back with its grammar when it is escalated', async () => {
    for (const turns of [0, 2]) {
      const adapters = { ...adaptersOf([]), escalated: escalated() }
      const world = createTestLoop({
        guard: testGuard,
        logits: chaotic,
        // Flagged once it is long, where nothing has changed yet.
        score: (context, states) =>
          context.length > 12 && states.every((state, i) => state === context[i]) ? 0.9 : 0.1,
      })
      const request = createRequest({
        ...{ maxTokens: 40, topLogprobs: 0, sampling: { ...sampled, seed: 5n } },
        safety: {
          ...{ input: 'off', reply: 'escalate', every: 4 },
          ...{ threshold: null, escalation: null, failure: 'closed' },
        },
      })
      const wait = turns === 0 ? {} : { wait: later(turns) }
      world.submit(request, { adapters, grammar: testGrammar(list, wait) })
      const events = await world.ended('request')
      assert.ok(events.some(({ kind }) => kind === 'escalated'))
      assert.match(textOf(events), isList)
      assert.equal(endOf(events).reason, 'stop')
    }
  })
})

function escalated() {
  const set = setOf([{ component: numbered(4), scale: 1 }])
  return { applied: set.applied, thought: set, answer: set }
}
