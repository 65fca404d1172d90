// Requests that are judged while they run, in random company: what each is told is what the plan says of
// the request alone, however late its verdicts are computed; and how late they may be.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { SafetyMode, SafetyPlan } from '../server/contracts/safety.ts'
import type { LoadedGuard } from '../server/safety/guard.ts'
import { probeThreshold } from './support/judged-reference.ts'
import {
  type Asked,
  assertAsAlone,
  capacity,
  choose,
  escalatedWith,
  type Random,
  randomAsked,
  randomPlan,
  randomProbe,
  randomScore,
  two,
  wordy,
} from './support/judged-requests.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import {
  adaptersOf,
  chaotic,
  createRequest,
  createTestLoop,
  type Judge,
  type ScriptedRunner,
  testGuard,
  tokensOf,
} from './support/scripted-model.ts'

const probingGuard: LoadedGuard = {
  ...testGuard,
  probe: { toScore: (product) => product, threshold: probeThreshold },
}

interface Counts {
  late: number
  verdictSteps: number
  probed: number
  flagged: number
  escalated: number
  cancelled: number
  blocked: number
  truncated: number
}

/** Requests that come at random in a cache that is too small for all of them. */
async function runHistory(
  seed: number,
  plan: (random: Random) => SafetyPlan | null,
  counts: Counts,
) {
  const random = createRandomNumbers(seed)
  const probe = seed % 2 === 0 ? null : randomProbe
  const rows = 1 + pick(random, 5)
  const positions = capacity * (1 + pick(random, rows))
  const asked = Array.from({ length: 10 }, (_, i) => randomAsked(random, `r${i}`, plan(random)))
  const waiting = [...asked]
  const world: ReturnType<typeof createTestLoop> = createTestLoop({
    rows,
    capacity,
    kvPositions: positions + pick(random, 3) * capacity,
    maxChunk: 2 + pick(random, 15),
    logits: wordy,
    score: randomScore,
    ...(probe === null ? { guard: testGuard } : { guard: probingGuard, probe }),
    wrap: (runner) => ({
      ...runner,
      get probe() {
        return runner.probe
      },
      savePositions(row, start, count) {
        if (count === 1) counts.late++
        return runner.savePositions(row, start, count)
      },
    }),
    beforeRun({ kind }) {
      if (kind === 'verdict') counts.verdictSteps++
      const next = waiting[0]
      if (next !== undefined && random() < 0.3) submit(waiting.shift()!)
      if (random() < 0.02) world.loop.cancel(choose(random, asked).request.id)
    },
  })
  function submit({ request, adapters, phase }: Asked): void {
    world.submit(request, { adapters, phase })
  }
  for (const [i, it] of asked.entries()) {
    if (waiting.includes(it)) submit(waiting.splice(waiting.indexOf(it), 1)[0]!)
    const events = await world.ended(it.request.id)
    try {
      assertAsAlone(it, events, { probe })
      assert.equal(world.numReleases(it.request.id), 1)
    } catch (error) {
      throw new Error(`seed ${seed}, request ${i}: ${JSON.stringify(it.request.safety)}`, {
        cause: error,
      })
    }
    for (const event of events) {
      if (event.kind === 'cancelled') counts.cancelled++
      if (event.kind === 'escalated') counts.escalated++
      if (event.kind === 'verdict' && event.flagged) counts.flagged++
      if (event.kind === 'verdict' && (event.probe ?? 0) >= probeThreshold) counts.probed++
      if (event.kind === 'verdict' && event.skipped === 'truncated') counts.truncated++
      if (event.kind === 'choice_finished' && event.reason === 'content_filter') counts.blocked++
    }
  }
  const { running, waiting: numWaiting } = world.loop.stats()
  assert.deepEqual([running, numWaiting], [0, 0])
}

const noCounts = (): Counts => ({
  late: 0,
  verdictSteps: 0,
  probed: 0,
  flagged: 0,
  escalated: 0,
  cancelled: 0,
  blocked: 0,
  truncated: 0,
})

describe('requests that are judged, in random company', () => {
  it('are told what they are told alone: each mode beside each other', async () => {
    const counts = noCounts()
    for (let seed = 0; seed < 150; seed++) {
      await runHistory(seed, (random) => (random() < 0.2 ? null : randomPlan(random)), counts)
    }
    for (const [what, count] of Object.entries(counts)) assert.ok(count > 50, `${what}: ${count}`)
  })

  it('are told of a guard that fails, which fails no stream', async () => {
    const failing = (runner: ScriptedRunner): ScriptedRunner => ({
      ...runner,
      verdict: async () => Promise.reject(new Error('no verdict')),
    })
    const errors: unknown[] = []
    const { error: log } = console
    console.error = (error) => errors.push(error)
    try {
      for (const [failure, numTold] of [
        ['open', 16],
        ['closed', 0],
      ] as const) {
        const world = createTestLoop({ guard: testGuard, wrap: failing })
        const safety = { ...planOf('block', 4), failure }
        world.submit(createRequest({ safety }))
        const events = await world.ended('request')
        const verdicts = events.filter((event) => event.kind === 'verdict')
        assert.ok(verdicts.every(({ score, skipped }) => score === null && skipped === 'failed'))
        const told = events.map((event) => (event.kind === 'delta' ? event.numTokens : 0))
        assert.equal(
          told.reduce((sum, count) => sum + count, 0),
          numTold,
        )
      }
    } finally {
      console.error = log
    }
    assert.ok(errors.length > 0)
  })
})

function planOf(mode: SafetyMode, every: number): SafetyPlan {
  const rest = { threshold: 1.1, escalation: null, failure: 'closed' } as const
  return { input: mode, reply: mode, every, ...rest }
}

/** How many tokens each verdict came after its place, and how many steps there were. */
async function measureLateness(mode: SafetyMode, every: number, probe: Judge | null = null) {
  const streams = Array.from({ length: 6 }, (_, i) => `stream ${i}`)
  const waiting = [...streams]
  /** Positions of each row that are computed. */
  const lengths: number[] = []
  const late: number[] = []
  const lateInputs: number[] = []
  const steps = { decode: 0, verdict: 0 }
  const world: ReturnType<typeof createTestLoop> = createTestLoop({
    rows: streams.length,
    capacity: 160,
    ...(probe === null ? { guard: testGuard } : { guard: probingGuard, probe }),
    score: () => 0.1,
    logits: chaotic,
    beforeRun({ kind }) {
      if (kind !== 'decode') return
      if (steps.decode++ % 5 === 4 && waiting.length > 0) submit(waiting.shift()!)
    },
    wrap: (runner) => ({
      ...runner,
      get probe() {
        return runner.probe
      },
      prefill(input) {
        lengths[input.row] = input.past + input.tokens.length
        return runner.prefill(input)
      },
      decode(batch) {
        for (const [row, { past }] of batch.entries()) lengths[row] = past + 1
        return runner.decode(batch)
      },
      verdict(batch, components, wanted) {
        steps.verdict++
        for (const [row, { past }] of batch.entries()) {
          const isInput = past === streams[0]!.length
          ;(isInput ? lateInputs : late).push(lengths[row]! - past)
        }
        return runner.verdict(batch, components, wanted)
      },
      copyRow(from, to, start, count) {
        lengths[to] = lengths[from]!
        runner.copyRow(from, to, start, count)
      },
    }),
  })
  function submit(id: string): void {
    const prompt = { kind: 'text', text: id } as const
    world.submit(createRequest({ id, prompt, maxTokens: 128, safety: planOf(mode, every) }))
  }
  submit(waiting.shift()!)
  for (const id of streams) await world.ended(id)
  return {
    most: Math.max(...late),
    numReplies: late.length,
    mostOfInputs: Math.max(...lateInputs),
    ...steps,
  }
}

describe('verdicts of rows that came one after the other', () => {
  it('share a step where they are only told of, each before the next of its row is due', async () => {
    const every = 16
    const { most, decode, verdict } = await measureLateness('observe', every)
    assert.equal(most, every - 1)
    // Beside one for each prompt and each end.
    assert.ok(verdict <= decode / every + 12, `${verdict} steps that judge, ${decode} that decode`)
  })

  it('wait a quarter of that where text waits for them', async () => {
    for (const mode of ['block', 'escalate'] as const) {
      for (const every of [16, 32]) {
        const { most, mostOfInputs } = await measureLateness(mode, every)
        assert.deepEqual([most, mostOfInputs], [every / 4, 0])
      }
    }
  })

  it('wait for nothing where the probe rises over its threshold', async () => {
    const prompt = 'stream 0'.length
    const probe: Judge = ({ length }) => (length === prompt + 70 ? 0.9 : 0.1)
    const { most } = await measureLateness('observe', 200, probe)
    assert.equal(most, 0)
  })
})

it('a reply that was escalated has the log-probabilities of what was kept and is told later', async () => {
  const request = createRequest({
    maxTokens: 20,
    topLogprobs: 1,
    splitReasoning: true,
    sampling: { ignoreEos: true },
    safety: { ...planOf('escalate', 4), input: 'off', threshold: null },
  })
  const isRaised = (states: readonly number[]) => states.at(-1) !== tokensOf(states).at(-1)
  const score: Judge = ({ length }, states) => (length >= 10 && !isRaised(states) ? 0.9 : 0.1)
  // Nothing is told before it is known that no thought ends.
  const it: Asked = {
    request,
    adapters: escalatedWith(adaptersOf([]), two),
    phase: 'beginning',
  }
  const world = createTestLoop({ logits: chaotic, guard: testGuard, score })
  world.submit(request, it)
  const events = await world.ended('request')
  const escalated = events.find((event) => event.kind === 'escalated')
  assert.equal(escalated?.keptTokens, 4)
  const deltas = events.filter((event) => event.kind === 'delta')
  assert.deepEqual(
    deltas.map(({ numTokens, logprobs }) => [numTokens, logprobs?.length]),
    [[20, 20]],
  )
  assertAsAlone(it, events, { score, logits: chaotic })
})
