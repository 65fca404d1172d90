// A guard that is exact: what it was not measured on is read once more without adapters, by another row.
// The judge sees what the positions that it reads were computed with, and knows nothing but their tokens,
// so its verdicts are those of a guard that was measured on everything.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { GenerateRequest, GenerationEvent } from '../server/contracts/generation.ts'
import type { SafetyMode, SafetyPlan } from '../server/contracts/safety.ts'
import type { RequestAdapters } from '../server/loop/segments.ts'
import type { LoadedGuard } from '../server/safety/guard.ts'
import { escalatedWith } from './support/judged-requests.ts'
import { createRandomNumbers } from './support/random-numbers.ts'
import {
  adaptersOf,
  chaotic,
  createRequest,
  createTestLoop,
  numbered,
  seedOf,
  stateOf,
  type TestLoopOptions,
  testGuard,
  textOf,
} from './support/scripted-model.ts'

const exact: LoadedGuard = { ...testGuard, isExact: true }
const measuredOnAll: LoadedGuard = {
  ...testGuard,
  calibrationOf: () => ({ temperature: 1, threshold: 0.5, certified: true }),
}
const adapted = adaptersOf([{ component: numbered(1), scale: 1 }])
const raised = { component: numbered(2), scale: 1 }
const answerOnly: RequestAdapters = { ...adapted, thought: adaptersOf([]).thought }

/** One in three is flagged. */
const scoreOf = (tokens: readonly number[]): number => (seedOf(tokens) % 3 === 0 ? 0.9 : 0.1)

/** Says something else where any position that it reads was computed with an adapter. */
function readsBase(tokens: readonly number[], states: readonly number[]): number {
  const isBase = tokens.every((token, i) => stateOf(token, []) === states[i])
  return isBase ? scoreOf(tokens) : 0.97
}

function plan(mode: SafetyMode, every: number): SafetyPlan {
  const escalation = mode === 'escalate' ? { id: '2', scale: 1 } : null
  return { input: mode, reply: mode, every, threshold: null, escalation, failure: 'closed' }
}

function ask(fields: Parameters<typeof createRequest>[0]): GenerateRequest {
  return createRequest({ prompt: { kind: 'text', text: 'a prompt' }, ...fields })
}

/** Of one choice, but for how far it ran ahead of a verdict, and what was certified. */
function told(events: readonly GenerationEvent[], index: number) {
  const own = events.filter((event) => 'index' in event && event.index === index)
  const scores = own.map((event) =>
    event.kind === 'verdict' ? { ...event, certified: null } : null,
  )
  return {
    text: textOf(events, { index }),
    verdicts: scores.filter((verdict) => verdict !== null),
    kept: own.flatMap((event) => (event.kind === 'escalated' ? [event.keptTokens] : [])),
    end: own.find(({ kind }) => kind === 'choice_finished'),
  }
}

async function alone(guard: LoadedGuard, request: GenerateRequest, options: TestLoopOptions = {}) {
  const world = createTestLoop({ logits: chaotic, guard, capacity: 96, ...options })
  world.submit(request, { adapters: adapted })
  return world.ended(request.id)
}

const certifiedOf = (events: readonly GenerationEvent[]) =>
  events.flatMap((event) => (event.kind === 'verdict' ? [event.certified] : []))

describe('a guard that is exact', () => {
  it('reads on the base what ran with an adapter, and is certified', async () => {
    const request = ask({ safety: plan('observe', 5) })
    const events = await alone(exact, request, { score: readsBase })
    assert.deepEqual(certifiedOf(events), [true, true, true, true, true])
    const loose = await alone(testGuard, request, { score: scoreOf })
    assert.deepEqual(certifiedOf(loose), [false, false, false, false, false])
    assert.equal(textOf(events), textOf(loose))
  })

  it('reads nothing again that it was measured on', async () => {
    let numPrefills = 0
    const world = createTestLoop({
      ...{ logits: chaotic, guard: exact, score: readsBase },
      beforeRun: ({ kind }) => {
        if (kind === 'prefill') numPrefills++
      },
    })
    world.submit(ask({ safety: plan('observe', 2) }))
    assert.ok(certifiedOf(await world.ended('request')).every(Boolean))
    assert.equal(numPrefills, 2)
  })

  it('reads nothing again where it was not measured on the base either', async () => {
    const calibrationOf = () => ({ temperature: 1, threshold: 0.5, certified: false })
    const events = await alone({ ...exact, calibrationOf }, ask({ safety: plan('observe', 5) }))
    assert.deepEqual(certifiedOf(events), [false, false, false, false, false])
  })

  it('reads a whole text once more where adapters act on a part of it', async () => {
    const world = createTestLoop({ logits: chaotic, guard: exact, score: readsBase })
    const request = ask({ splitReasoning: true, safety: plan('observe', 3) })
    world.submit(request, { adapters: answerOnly })
    assert.ok(certifiedOf(await world.ended('request')).every(Boolean))
  })

  it('gives in any company and memory the verdicts and texts of one that was measured on all', async () => {
    const random = createRandomNumbers(3)
    const modes = ['observe', 'block', 'escalate'] as const
    const counts = { verdicts: 0, escalated: 0, blocked: 0 }
    for (let round = 0; round < 40; round++) {
      const requests = Array.from({ length: 1 + Math.floor(6 * random()) }, (_, i) =>
        ask({
          id: `r${i}`,
          prompt: { kind: 'text', text: `prompt ${i % 3}${'z'.repeat(Math.floor(12 * random()))}` },
          n: 1 + (i % 2),
          maxTokens: Math.floor(24 * random()),
          safety: i % 4 === 3 ? null : plan(modes[i % 3]!, 1 + Math.floor(8 * random())),
        }),
      )
      const rows = 1 + (round % 3)
      const options = { logits: chaotic, rows, kvPositions: 80 + 40 * (round % 3) }
      const world = createTestLoop({ ...options, guard: exact, score: readsBase })
      const other = createTestLoop({ logits: chaotic, guard: measuredOnAll, score: scoreOf })
      const adapters = escalatedWith(adapted, raised)
      for (const request of requests) {
        world.submit(request, { adapters })
        other.submit(request, { adapters })
      }
      for (const request of requests) {
        const events = await world.ended(request.id)
        const wanted = await other.ended(request.id)
        for (let index = 0; index < request.n; index++) {
          assert.deepEqual(told(events, index), told(wanted, index))
        }
        assert.ok(certifiedOf(events).every(Boolean))
        assert.equal(events.at(-1)?.kind, 'done')
        assert.equal(world.numReleases(request.id), 1)
        for (const event of events) {
          if (event.kind === 'verdict') counts.verdicts++
          if (event.kind === 'escalated') counts.escalated++
          if (event.kind === 'choice_finished' && event.reason === 'content_filter')
            counts.blocked++
        }
      }
      const { running, waiting } = world.loop.stats()
      assert.deepEqual({ running, waiting }, { running: 0, waiting: 0 })
    }
    assert.ok(counts.escalated > 10 && counts.blocked > 10, JSON.stringify(counts))
  })

  it('that is cancelled while a text is read ends once, and the text is read no further', async () => {
    const world = createTestLoop({ logits: chaotic, guard: exact, score: readsBase, rows: 1 })
    world.submit(ask({ id: 'a', maxTokens: 40, safety: plan('block', 4) }), { adapters: adapted })
    world.submit(ask({ id: 'b', maxTokens: 4, safety: plan('observe', 4) }), { adapters: adapted })
    world.loop.cancel('a')
    assert.equal((await world.ended('a')).at(-1)?.kind, 'cancelled')
    assert.equal((await world.ended('b')).at(-1)?.kind, 'done')
    assert.equal(world.loop.stats().running, 0)
    assert.equal(world.numReleases('a'), 1)
  })

  it('that fails gives no score, and fails no stream', async () => {
    const events = await alone(exact, ask({ safety: plan('observe', 8) }), {
      beforeRun: ({ kind }) => {
        if (kind === 'verdict') throw new Error('the guard fails')
      },
    })
    const skipped = events.flatMap((event) => (event.kind === 'verdict' ? [event.skipped] : []))
    assert.deepEqual(skipped, ['failed', 'failed', 'failed'])
    assert.equal(events.at(-1)?.kind, 'done')
  })
})
