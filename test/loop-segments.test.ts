// Adapters that change within a sequence: keys and values are taken over only where the adapters of every
// position before are the same.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { AdapterRef, HeldAdapter } from '../server/contracts/adapter.ts'
import { arrangeAdapters, createSegments, markOf, sharedLength } from '../server/loop/segments.ts'
import { runUnjudged } from './support/judged-reference.ts'
import {
  type Asked,
  assertAsAlone,
  carriers,
  choose,
  escalatedWith,
  phases,
  randomScore,
  two,
  wordy,
} from './support/judged-requests.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import {
  createRequest,
  createTestLoop,
  type Judge,
  numbered,
  setOf,
  testGuard,
  tokensOf,
} from './support/scripted-model.ts'

const setWith = (number: number) => setOf([{ component: numbered(number), scale: 1 }])

describe('segments', () => {
  it('say what acts on a position; a change that changes nothing is none', () => {
    const segments = createSegments(setOf([]))
    segments.set(5, setOf([]))
    assert.equal(segments.list.length, 1)
    segments.set(5, setWith(1))
    segments.set(9, setWith(2))
    assert.deepEqual(
      [0, 4, 5, 8, 9, 100].map((position) => segments.at(position).from),
      [0, 0, 5, 5, 9, 9],
    )
    segments.set(7, setWith(1))
    assert.equal(segments.at(100).key, setWith(1).key)
    assert.equal(segments.list.length, 2)
    segments.set(0, setWith(3))
    assert.equal(segments.at(100).key, setWith(3).key)
  })

  it('are shared up to where they differ', () => {
    const made = (...changes: Array<readonly [number, number]>) => {
      const segments = createSegments(setOf([]))
      for (const [from, number] of changes) segments.set(from, setWith(number))
      return segments.list
    }
    assert.equal(sharedLength(made(), made()), Infinity)
    assert.equal(sharedLength(made([5, 1]), made([5, 1])), Infinity)
    assert.equal(sharedLength(made([5, 1]), made()), 5)
    assert.equal(sharedLength(made([5, 1]), made([5, 2])), 5)
    assert.equal(sharedLength(made([5, 1], [9, 2]), made([5, 1], [12, 2])), 9)
    assert.equal(sharedLength(made([0, 1]), made([0, 2])), 0)
  })

  it('mark the block that holds a change, and no other', () => {
    const segments = createSegments(setOf([]))
    segments.set(20, setWith(1))
    const marks = [0, 16, 32].map((from) => markOf(segments.list, from, from + 16))
    assert.deepEqual([marks[0], marks[2]], ['', ''])
    assert.match(marks[1]!, /^@4\[/)
  })
})

describe('the adapters of a request', () => {
  const held = (id: string, scale: number, span?: AdapterRef['span']): HeldAdapter => ({
    applied: { id, digest: `digest of ${id}`, scale, ...(span && { span }) },
    components: [numbered(id.length)],
    defaultScale: 0.5,
  })
  const ids = (sets: { applied: ReadonlyArray<{ id: string; scale: number }> }) =>
    sets.applied.map(({ id, scale }) => `${id}:${scale}`)

  it('act where their span says', () => {
    const adapters = [held('a', 1), held('b', 1, 'thought'), held('c', 1, 'answer')]
    const refs = adapters.map(({ applied }) => applied)
    const { applied, thought, answer, escalated } = arrangeAdapters(adapters, refs, null)
    assert.deepEqual(ids({ applied }), ['a:1', 'b:1', 'c:1'])
    assert.deepEqual(ids(thought), ['a:1', 'b:1'])
    assert.deepEqual(ids(answer), ['a:1', 'c:1'])
    assert.equal(escalated, null)
  })

  it('are joined by that of an escalation, which is no part of them before', () => {
    const own = held('a', 1, 'answer')
    const raised = held('safety', 0.5)
    const to = { id: 'safety', scale: 2 }
    const { applied, thought, escalated } = arrangeAdapters([own, raised], [own.applied], to)
    assert.deepEqual([ids({ applied }), ids(thought)], [['a:1'], []])
    assert.deepEqual(ids(escalated!), ['a:1', 'safety:2'])
    assert.deepEqual(ids(escalated!.thought), ['safety:2'])
    assert.deepEqual(ids(escalated!.answer), ['a:1', 'safety:2'])
  })

  it('one that acts already goes on with the larger strength, everywhere', () => {
    const strengths = (own: number, asked: number | null, span?: AdapterRef['span']) => {
      const safety = held('safety', own, span)
      const to = { id: 'safety', scale: asked }
      const { escalated } = arrangeAdapters([safety], [safety.applied], to)
      assert.equal(escalated!.applied[0]!.span, undefined)
      return [escalated!.thought.components[0]!.scale, escalated!.answer.components[0]!.scale]
    }
    assert.deepEqual(strengths(1, 2), [2, 2])
    assert.deepEqual(strengths(3, 2), [3, 3])
    assert.deepEqual(strengths(0.25, null), [0.5, 0.5])
    assert.deepEqual(strengths(1, 2, 'answer'), [2, 2])
  })
})

describe('keys and values that are taken over', () => {
  const capacity = 160

  /** Each prompt goes on where an earlier reply was, under adapters of its own. */
  async function runTurns(seed: number, prefixPositions: number): Promise<number> {
    const random = createRandomNumbers(seed)
    const world = createTestLoop({
      rows: 3,
      capacity,
      prefixPositions,
      maxChunk: 32,
      logits: wordy,
      score: randomScore,
      guard: testGuard,
    })
    const texts: Array<readonly number[]> = [Array.from({ length: 20 }, (_, i) => 65 + i)]
    const asked: Asked[] = []
    let numCached = 0
    for (let turn = 0; turn < 12; turn++) {
      const before = choose(random, texts)
      const kept = before.slice(0, Math.max(1, before.length - pick(random, 12))).slice(0, 100)
      const request = createRequest({
        id: `r${turn}`,
        prompt: { kind: 'tokens', tokens: [...kept, 65 + pick(random, 3)] },
        maxTokens: 20 + pick(random, 30),
        splitReasoning: true,
        sampling: { temperature: 1, ignoreEos: true, seed: BigInt(pick(random, 3)) },
        safety: {
          input: choose(random, ['off', 'escalate']),
          reply: choose(random, ['off', 'observe', 'escalate']),
          every: 1 + pick(random, 20),
          threshold: 0.7,
          escalation: null,
          failure: 'open',
        },
      })
      const adapters = escalatedWith(choose(random, carriers), two)
      const it: Asked = { request, adapters, phase: choose(random, phases) }
      asked.push(it)
      const run = runUnjudged(
        { ...it, index: 0, logits: wordy, score: randomScore, probe: null, capacity },
        'never',
      )
      texts.push(tokensOf(run.states))
      world.submit(request, it)
      if (random() < 0.6) await world.ended(request.id)
    }
    for (const it of asked) {
      const events = await world.ended(it.request.id)
      assertAsAlone(it, events, { capacity })
      const last = events.at(-1)
      if (last?.kind === 'done') numCached += last.cachedTokens
    }
    return numCached
  }

  it('change no token and no verdict, whatever acted on the positions before', async () => {
    let numCached = 0
    for (let seed = 0; seed < 60; seed++) {
      numCached += await runTurns(seed, seed % 3 === 0 ? 0 : 4000)
    }
    assert.ok(numCached > 5000, `${numCached} tokens taken over`)
  })

  it('a reply goes on under its own adapters only: the block of the change is the last one shared', async () => {
    const tokens = Array.from({ length: 40 }, (_, i) => 97 + (i % 5))
    const world = createTestLoop({ capacity, prefixPositions: 4000, logits: wordy })
    const answering: (typeof carriers)[number] = carriers[2]!
    const ask = async (id: string, prompt: readonly number[], adapters: Asked['adapters']) => {
      const request = createRequest({
        id,
        prompt: { kind: 'tokens', tokens: prompt },
        maxTokens: 30,
        sampling: { ignoreEos: true },
      })
      world.submit(request, { adapters })
      const last = (await world.ended(id)).at(-1)
      assert.ok(last?.kind === 'done')
      return last.cachedTokens
    }
    const reference = {
      index: 0,
      phase: 'answering',
      logits: wordy,
      score: randomScore,
      probe: null,
      capacity,
    } as const
    const request = createRequest({
      prompt: { kind: 'tokens', tokens },
      maxTokens: 30,
      sampling: { ignoreEos: true },
    })
    const { states } = runUnjudged({ ...reference, request, adapters: answering }, 'never')
    const whole = tokensOf(states)
    assert.equal(await ask('first', tokens, answering), 0)
    // The base acts on all of this prompt, on the reply's part of it, too.
    assert.equal(await ask('base', whole, carriers[0]!), 32)
    // The same adapters, which begin later now.
    assert.equal(await ask('later', whole, answering), 64)
    assert.equal(await ask('other', whole, carriers[1]!), 0)
  })

  it('those of tokens that were dropped are taken over with those tokens only', async () => {
    const tokens = Array.from({ length: 40 }, (_, i) => 97 + (i % 5))
    const [every, flaggedAt] = [16, 64]
    const isRaised = (states: readonly number[]) => states.at(-1) !== tokensOf(states).at(-1)
    const score: Judge = ({ length }, states) =>
      length >= tokens.length + flaggedAt && !isRaised(states) ? 0.9 : 0.1
    const plan = { input: 'off', reply: 'escalate', every, threshold: null } as const
    const request = createRequest({
      prompt: { kind: 'tokens', tokens },
      maxTokens: 100,
      sampling: { ignoreEos: true },
      safety: { ...plan, escalation: null, failure: 'open' },
    })
    const adapters = escalatedWith(carriers[0]!, two)
    const world = createTestLoop({
      ...{ capacity, prefixPositions: 4000, maxChunk: 32, logits: wordy, guard: testGuard, score },
    })
    world.submit(request, { adapters })
    const kept = flaggedAt - every
    const escalated = (await world.ended('request')).find(({ kind }) => kind === 'escalated')
    assert.equal(escalated?.kind === 'escalated' && escalated.keptTokens, kept)

    const reference = { index: 0, phase: 'answering', logits: wordy, score, probe: null } as const
    const run = (escalation: number | 'never') =>
      runUnjudged({ ...reference, request, adapters, capacity }, escalation)
    const [dropped, said] = [tokensOf(run('never').states), tokensOf(run(kept).states)]
    const place = 96
    assert.notDeepEqual(dropped.slice(0, place), said.slice(0, place))
    // What was dropped, then what was said at the same positions.
    const mixed = [...dropped.slice(0, place), ...said.slice(place, place + 20)]
    const next = createRequest({ id: 'next', prompt: { kind: 'tokens', tokens: mixed } })
    world.submit(next)
    const events = await world.ended('next')
    assertAsAlone({ request: next, adapters: carriers[0]!, phase: 'answering' }, events, {
      capacity,
    })
    const last = events.at(-1)
    assert.equal(last?.kind === 'done' && last.cachedTokens, place)
  })
})
