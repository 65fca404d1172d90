// Verdicts in the loop: where they are due, that they change no token, and what is told of a reply that
// is flagged. The scripted guard says what the row's own cache holds: a wrong position shows.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type {
  GenerateRequest,
  GenerationEvent,
  SamplingParams,
} from '../server/contracts/generation.ts'
import type { SafetyMode, SafetyPlan } from '../server/contracts/safety.ts'
import type { LoadedGuard } from '../server/safety/guard.ts'
import { createRandomNumbers } from './support/random-numbers.ts'
import {
  bytesOf,
  certain,
  chaotic,
  createRequest,
  createTestLoop,
  eos,
  type Logits,
  numbered,
  replying,
  textOf,
  thoughtEnd,
} from './support/scripted-model.ts'

const guardToken = 258
const [safe, unsafe] = [1, 2]
const guardComponents = [{ component: numbered(99), scale: 1 }]

const guard: LoadedGuard = {
  info: { kind: 'adapter', id: 'judge', digest: null, hasProbe: false, threshold: 0.5 },
  token: guardToken,
  labels: { safe, unsafe },
  components: guardComponents,
  calibrationOf: () => ({ temperature: 1, threshold: 0.5, certified: true }),
  probe: null,
  isExact: false,
}

/** Unsafe where the conversation so far has this byte, or token. */
function judgingAs(reply: Logits, harm: string | number): Logits {
  const [byte] = typeof harm === 'number' ? [harm] : bytesOf(harm)
  return (context, components) => {
    if (components !== guardComponents) {
      assert.ok(!context.includes(guardToken), 'a verdict stayed in the cache')
      return reply(context, components)
    }
    assert.equal(context.at(-1), guardToken)
    return certain(context.includes(byte!) ? unsafe : safe)
  }
}

function plan(mode: SafetyMode, every = 4, more: Partial<SafetyPlan> = {}): SafetyPlan {
  const rest = { threshold: null, escalation: null, failure: 'closed' } as const
  return { input: mode, reply: mode, every, ...rest, ...more }
}

async function answer(logits: Logits, request: GenerateRequest, capacity = 64) {
  const world = createTestLoop({ logits, guard, capacity })
  world.submit(request)
  return world.ended(request.id)
}

const verdictsOf = (events: readonly GenerationEvent[]) =>
  events.flatMap((event) =>
    event.kind === 'verdict' ? [[event.part, event.scoredTokens, event.flagged]] : [],
  )

const endOf = (events: readonly GenerationEvent[]) =>
  events.find((event) => event.kind === 'choice_finished')

const asks = (text: string, fields: Parameters<typeof createRequest>[0] = {}) =>
  createRequest({ prompt: { kind: 'text', text }, ...fields })

const kindsOf = (events: readonly GenerationEvent[]) => events.map(({ kind }) => kind)

describe('verdicts are due', () => {
  it('at the end of the prompt, every few tokens and at the end, without the end token', async () => {
    const logits = judgingAs(replying({ hi: 'abcdefghij' }), 'X')
    const events = await answer(logits, asks('hi', { safety: plan('observe') }))
    const expected = [0, 4, 8, 10].map((at) => [at === 0 ? 'input' : 'output', at, false])
    assert.deepEqual(verdictsOf(events), expected)
    assert.equal(textOf(events), 'abcdefghij')
    assert.deepEqual(kindsOf(events).slice(-2), ['choice_finished', 'done'])
  })

  it('over the last token where it has text: the length, or a stop string', async () => {
    const logits = judgingAs(replying({ hi: 'abcdefgh' }), 'X')
    const cut = await answer(logits, asks('hi', { maxTokens: 5, safety: plan('observe') }))
    assert.deepEqual(verdictsOf(cut).at(-1), ['output', 5, false])
    const sampling = { stop: ['c'] }
    const stopped = await answer(logits, asks('hi', { sampling, safety: plan('observe') }))
    assert.deepEqual(verdictsOf(stopped).at(-1), ['output', 3, false])
  })

  it('at the end of the thought, which is judged apart', async () => {
    const reply = [...bytesOf('so'), thoughtEnd, ...bytesOf('yes')]
    const world = createTestLoop({ logits: judgingAs(replying({ hi: reply }), 'X'), guard })
    world.submit(asks('hi', { splitReasoning: true, safety: plan('observe', 16) }), {
      phase: 'opened',
    })
    const events = await world.ended('request')
    assert.deepEqual(verdictsOf(events), [
      ['input', 0, false],
      ['reasoning', 3, false],
      ['output', 6, false],
    ])
  })

  it('once for a prompt of which nothing is generated', async () => {
    const logits = judgingAs(replying({ X: '' }), 'X')
    const events = await answer(logits, asks('X', { maxTokens: 0, safety: plan('observe') }))
    assert.deepEqual(verdictsOf(events), [['input', 0, true]])
    assert.deepEqual(kindsOf(events), ['verdict', 'choice_finished', 'done'])
  })

  it('and left out where no position is free: told so, and held back by block', async () => {
    const logits = judgingAs(replying({ hi: 'abcdefgh' }), 'X')
    const full = { maxTokens: 6, safety: plan('observe', 4) }
    const observed = await answer(logits, asks('hi', full), 8)
    const last = observed.findLast((event) => event.kind === 'verdict')
    assert.ok(last?.kind === 'verdict' && last.skipped === 'truncated' && last.score === null)
    assert.equal(textOf(observed), 'abcdef')
    const blocked = await answer(logits, asks('hi', { ...full, safety: plan('block', 4) }), 8)
    assert.equal(textOf(blocked), 'abcd')
    const open = plan('block', 4, { failure: 'open' })
    assert.equal(textOf(await answer(logits, asks('hi', { ...full, safety: open }), 8)), 'abcdef')
  })
})

describe('block', () => {
  it('tells nothing of a prompt that is flagged', async () => {
    const logits = judgingAs(replying({ X: 'abc' }), 'X')
    const events = await answer(logits, asks('X', { safety: plan('block') }))
    assert.deepEqual(kindsOf(events), ['verdict', 'choice_finished', 'done'])
    const end = endOf(events)
    assert.ok(end?.kind === 'choice_finished' && end.reason === 'content_filter')
  })

  it('tells what passed, and never a byte of what was flagged', async () => {
    const random = createRandomNumbers(11)
    for (let round = 0; round < 200; round++) {
      const length = 1 + Math.floor(30 * random())
      const at = Math.floor(1.5 * length * random())
      const every = 1 + Math.floor(9 * random())
      const reply = Array.from({ length }, (_, i) =>
        i === at ? 'X' : ('aé€😀'[i % 5] ?? 'b'),
      ).join('')
      const bytes = bytesOf(reply)
      const logits = judgingAs(replying({ hi: bytes }), 'X')
      const fields = { maxTokens: 48, sampling: round % 3 === 0 ? { stop: ['aé'] } : {} }
      const observed = await answer(
        logits,
        asks('hi', { ...fields, safety: plan('observe', every) }),
      )
      const events = await answer(logits, asks('hi', { ...fields, safety: plan('block', every) }))
      const flagged = verdictsOf(observed).find(([, , isFlagged]) => isFlagged)
      if (flagged === undefined) {
        assert.equal(textOf(events), textOf(observed))
        assert.deepEqual(endOf(events), endOf(observed))
        continue
      }
      const passed = verdictsOf(observed).filter(
        ([, tokens]) => Number(tokens) < Number(flagged[1]),
      )
      const numPassed = Number(passed.at(-1)?.[1])
      const whole = textOf(observed)
      const told = textOf(events)
      assert.ok(whole.startsWith(told) && bytesOf(told).length <= numPassed, `${told} of ${whole}`)
      assert.ok(numPassed - bytesOf(told).length < 8, 'text that passed was held back')
      const end = endOf(events)
      assert.ok(end?.kind === 'choice_finished' && end.reason === 'content_filter')
    }
  })
})

describe('block, of a token that ends the reply and is shown', () => {
  const reply = replying({ hi: 'abcX' })

  async function textsOf(logits: Logits, sampling: Partial<SamplingParams>): Promise<string[]> {
    const ask = (mode: SafetyMode) =>
      answer(logits, asks('hi', { sampling, safety: plan(mode, 100) }))
    return Promise.all((['observe', 'block'] as const).map(async (mode) => textOf(await ask(mode))))
  }

  it('judges the text of a stop token', async () => {
    const sampling = { stopTokenIds: bytesOf('X'), includeStopInOutput: true }
    assert.deepEqual(await textsOf(judgingAs(reply, 'X'), sampling), ['abcX', ''])
    assert.deepEqual(await textsOf(judgingAs(reply, 'Y'), sampling), ['abcX', 'abcX'])
  })

  it('judges the text of an end token that is a stop string', async () => {
    const sampling = { stop: ['<eos>'], includeStopInOutput: true }
    assert.deepEqual(await textsOf(judgingAs(reply, eos), sampling), ['abcX<eos>', ''])
  })

  it('asks for no verdict on one that is not shown', async () => {
    const sampling = { stopTokenIds: bytesOf('X') }
    assert.deepEqual(await textsOf(judgingAs(reply, 'X'), sampling), ['abc', 'abc'])
    const hidden = { stopTokenIds: [eos], includeStopInOutput: true }
    assert.deepEqual(await textsOf(judgingAs(reply, eos), hidden), ['abcX', 'abcX'])
  })
})

describe('a judged reply', () => {
  it('has every token of one that is not judged, in any company, and the verdicts of one alone', async () => {
    const random = createRandomNumbers(5)
    const logits = judgingAs(chaotic, 'X')
    for (let round = 0; round < 12; round++) {
      const requests = Array.from({ length: 9 }, (_, i) =>
        asks(`prompt ${i % 4} of ${'z'.repeat(Math.floor(9 * random()))}`, {
          id: `r${i}`,
          n: 1 + (i % 2),
          maxTokens: 1 + Math.floor(20 * random()),
          safety: i % 3 === 0 ? null : plan('observe', 1 + Math.floor(6 * random())),
        }),
      )
      const world = createTestLoop({ logits, guard, rows: 3, kvPositions: 110 })
      for (const request of requests) world.submit(request)
      for (const request of requests) {
        const events = await world.ended(request.id)
        const alone = createTestLoop({ logits, guard })
        alone.submit(request)
        const unjudged = createTestLoop({ logits })
        unjudged.submit({ ...request, safety: null })
        const plain = await unjudged.ended(request.id)
        const own = await alone.ended(request.id)
        for (let index = 0; index < request.n; index++) {
          assert.equal(textOf(events, { index }), textOf(plain, { index }))
          const ofIndex = (list: readonly GenerationEvent[]) =>
            list.filter((event) => event.kind === 'verdict' && event.index === index)
          assert.deepEqual(ofIndex(events), ofIndex(own))
        }
        assert.equal(world.numReleases(request.id), 1)
      }
    }
  })

  it('that is cancelled ends once, and leaves the others as they are', async () => {
    const logits = judgingAs(replying({ a: 'aaaaaaaaaaaa', b: 'bbbbbbbb' }), 'X')
    const world = createTestLoop({ logits, guard })
    world.submit(asks('a', { id: 'a', safety: plan('block', 8) }))
    world.submit(asks('b', { id: 'b', safety: plan('block', 2) }))
    world.loop.cancel('a')
    assert.deepEqual(kindsOf(await world.ended('a')).at(-1), 'cancelled')
    assert.equal(textOf(await world.ended('b')), 'bbbbbbbb')
  })
})
