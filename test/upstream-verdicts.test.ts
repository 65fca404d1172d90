// A guard that an upstream computes: what is asked for a verdict, and what follows from it.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import type { GenerationEvent } from '../server/contracts/generation.ts'
import type { SafetyPlan } from '../server/contracts/safety.ts'
import { loadTokenizer } from '../server/tokenizer/tokenizer.ts'
import { type FakeVllm, fakeEnd, startFakeVllm } from './support/fake-vllm.ts'
import { writeGuard } from './support/guard-folder.ts'
import { createRequest } from './support/scripted-model.ts'
import { createTempFolder } from './support/temp-folder.ts'
import {
  openWorld,
  textOfEvents,
  upstreamModel,
  type World,
  writeDescription,
  writeUpAdapter,
} from './support/upstream-world.ts'

const dir = createTempFolder()
const tokenizer = loadTokenizer(writeDescription(join(dir, 'model')))
const baseDigest = 'ab'.repeat(32)
const guardToken = 303
const labels = { safe: 65, unsafe: 66 }
const reply = 'one two three four five six'

let fake: FakeVllm
let world: World

/** The checkpoint has no weights here: the record names their digest. */
async function nameBase(): Promise<void> {
  const first = await openWorld({ dir, upstreams: [fake] })
  first.engine.close()
  const path = join(dir, 'fingerprint.json')
  writeFileSync(
    path,
    JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), base: baseDigest }),
  )
}

before(async () => {
  fake = await startFakeVllm({
    encode: (text) => tokenizer.encode(text),
    next: (prompt, said) => {
      const start = Buffer.from(prompt).lastIndexOf('?')
      if (start < 0) return null
      return Buffer.from(reply)[prompt.length - start - 1 + said.length] ?? fakeEnd
    },
  })
  writeUpAdapter(join(dir, 'adapters'), 'safe', 1)
  await nameBase()
  writeGuard(join(dir, 'adapters'), 'judge', {
    model: upstreamModel,
    baseDigest,
    token: guardToken,
    labels,
  })
  world = await openWorld({
    dir,
    upstreams: [fake],
    options: { guard: { id: 'judge' }, acceptsOtherBases: false, maxAdapterRank: 8 },
  })
})
after(async () => {
  world.engine.close()
  await fake.close()
})
beforeEach(() => {
  fake.calls.length = 0
  fake.state.score = () => 0.01
  fake.state.answer = undefined
})

const observe: SafetyPlan = {
  input: 'observe',
  reply: 'observe',
  every: 1_048_576,
  threshold: null,
  escalation: null,
  failure: 'closed',
}

const verdictsOf = (events: readonly GenerationEvent[]) =>
  events.filter((event) => event.kind === 'verdict')
const asked = () => fake.calls.filter(({ body }) => body.logprob_token_ids !== undefined)
const finishOf = (events: readonly GenerationEvent[]) =>
  events.find((event) => event.kind === 'choice_finished')
const prompt = { kind: 'text', text: 'what?' } as const
const promptTokens = [...Buffer.from('what?')]

function judged(id: string, plan: Partial<SafetyPlan>, fields = {}) {
  return world.run(
    createRequest({ id, prompt, maxTokens: 64, safety: { ...observe, ...plan }, ...fields }),
  )
}

describe('verdicts over vLLM', () => {
  it('judge the prompt and the end of the reply, and are certified by no measure', async () => {
    const events = await judged('1', {})
    assert.equal(textOfEvents(events), reply)
    const verdicts = verdictsOf(events)
    assert.deepEqual(
      verdicts.map(({ part, scoredTokens, certified, flagged, probe, skipped }) => [
        part,
        scoredTokens,
        certified,
        flagged,
        probe,
        skipped,
      ]),
      [
        ['input', 0, false, false, null, null],
        ['output', reply.length, false, false, null, null],
      ],
    )
    assert.ok(verdicts.every(({ score }) => score !== null && score < 0.1))
    const accepted = events[0]
    assert.ok(accepted?.kind === 'accepted')
    assert.deepEqual(
      [accepted.guard?.id, accepted.guard?.certified, accepted.guard?.hasProbe],
      ['judge', false, false],
    )
  })

  it('are one-token completions with the guard’s adapter, its token last, and two log-probabilities', async () => {
    await judged('2', { reply: 'off' })
    const { body } = asked()[0]!
    assert.deepEqual(body.prompt, [...promptTokens, guardToken])
    assert.match(String(body.model), /^[0-9a-f]{24}@1$/)
    assert.deepEqual(
      [body.max_tokens, body.temperature, body.logprob_token_ids],
      [1, 0, [labels.safe, labels.unsafe]],
    )
    assert.notEqual(fake.completions()[0]!.body.model, body.model)
  })

  it('come after every so many tokens where that is asked', async () => {
    const events = await judged('3', { every: 10, input: 'off' })
    assert.deepEqual(
      verdictsOf(events).map(({ scoredTokens }) => scoredTokens),
      [10, 20, reply.length],
    )
  })

  it('block: what was flagged is never told, and its stream is closed', async () => {
    const flagFrom = promptTokens.length + 'one two three'.length
    fake.state.score = (tokens) => (tokens.length > flagFrom ? 0.99 : 0.01)
    const events = await judged('4', { reply: 'block', every: 8 })
    assert.equal(textOfEvents(events), reply.slice(0, 8))
    assert.equal(finishOf(events)?.reason, 'content_filter')
    assert.equal(events.at(-1)?.kind, 'done')
  })

  it('block: a flagged prompt gets no word', async () => {
    fake.state.score = () => 0.99
    const events = await judged('5', { input: 'block' })
    assert.equal(textOfEvents(events), '')
    assert.equal(finishOf(events)?.reason, 'content_filter')
  })

  it('escalate: the reply goes on from the last text that passed, with the other adapter', async () => {
    const flagFrom = promptTokens.length + 12
    let numFlags = 0
    fake.state.score = (tokens) => (tokens.length > flagFrom && numFlags++ === 0 ? 0.99 : 0.01)
    const escalation = { id: 'safe', scale: 1 }
    const events = await judged('6', { reply: 'escalate', every: 8, escalation })
    const escalated = events.find((event) => event.kind === 'escalated')
    assert.equal(escalated?.keptTokens, 8)
    assert.deepEqual(
      escalated?.adapters.map(({ id, scale, attested }) => [id, scale, attested]),
      [['safe', 1, 'arranged']],
    )
    const streams = fake.completions()
    assert.equal(streams.length, 2)
    assert.equal(streams[0]!.body.model, fake.base)
    assert.match(String(streams[1]!.body.model), /^[0-9a-f]{24}@1$/)
    // The token after the kept ones was sampled on them alone, so it stays.
    assert.deepEqual(streams[1]!.body.prompt, [...promptTokens, ...Buffer.from(reply.slice(0, 9))])
    assert.equal(streams[1]!.body.max_tokens, 64 - 9)
    assert.equal(textOfEvents(events), reply)
    assert.equal(finishOf(events)?.reason, 'stop')
  })

  it('escalate: a flagged prompt is answered anew', async () => {
    let numFlags = 0
    fake.state.score = () => (numFlags++ === 0 ? 0.99 : 0.01)
    const escalation = { id: 'safe', scale: 1 }
    const events = await judged('7', { input: 'escalate', reply: 'off', escalation })
    assert.equal(events.find((event) => event.kind === 'escalated')?.keptTokens, 0)
    assert.equal(textOfEvents(events), reply)
    assert.deepEqual(fake.completions().at(-1)!.body.prompt, promptTokens)
    assert.notEqual(fake.completions().at(-1)!.body.model, fake.base)
  })

  it('escalate is refused with penalties that a second stream could not go on counting', async () => {
    const escalation = { id: 'safe', scale: 1 }
    const sampling = { frequencyPenalty: 0.5 }
    const events = await judged('8', { reply: 'escalate', escalation }, { sampling })
    const failed = events.at(-1)
    assert.ok(failed?.kind === 'failed')
    assert.deepEqual(
      [failed.error.code, failed.error.param],
      ['unsupported_parameter', 'frequency_penalty'],
    )
  })

  it('that are not given follow --guard-failure', async () => {
    const body = { error: { message: 'no', param: null } }
    fake.state.answer = ({ body: { logprob_token_ids: ids } }) =>
      ids === undefined ? undefined : { status: 400, body }
    const closed = await judged('9', { reply: 'block' })
    assert.equal(textOfEvents(closed), '')
    assert.equal(verdictsOf(closed).at(-1)?.skipped, 'failed')
    const open = await judged('10', { reply: 'block', failure: 'open' })
    assert.equal(textOfEvents(open), reply)
  })

  it('greedy choices of one request are judged once', async () => {
    const events = await judged('11', { input: 'off' }, { n: 3 })
    assert.equal(verdictsOf(events).length, 3)
    assert.equal(asked().length, 1)
    for (const index of [0, 1, 2]) assert.equal(textOfEvents(events, index), reply)
  })

  it('need a place beside the adapters of requests', async () => {
    const narrow = await startFakeVllm({ encode: (text) => tokenizer.encode(text), maxLoras: 1 })
    const options = { guard: { id: 'judge' } } as const
    try {
      await assert.rejects(
        openWorld({ dir, upstreams: [narrow], options }),
        /--max-loras 2 or more/,
      )
    } finally {
      await narrow.close()
    }
  })
})
