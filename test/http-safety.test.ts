// Live safety as a client meets it: what it may ask for, what it gets told, and what no request goes below.
// The engine is a fake one with a guard; its verdicts are scripted.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { HttpConfig } from '../server/http/context.ts'
import {
  accepted,
  answer,
  createFakeEngine,
  delta,
  digestOf,
  done,
  fakeGuard,
  finished,
  guardedModel,
  type Script,
  verdict,
} from './support/fake-engine.ts'
import { createFront, goodChat, parseEvents, readJson, userMessage } from './support/front.ts'

const chat = '/v1/chat/completions'
const completions = '/v1/completions'
const responses = '/v1/responses'
const messages = '/v1/messages'
/** Those that take a chat, each in its own shape. */
const chats = [chat, responses, messages]
const digest = digestOf('watch').slice(0, 12)

function guardedFront(config: Partial<HttpConfig> = {}, script: Script = answer) {
  const engine = createFakeEngine({ script })
  engine.model = guardedModel
  return createFront({ engine, config })
}

function goodOf(path: string): object {
  if (path === completions) return { model: 'tiny', prompt: 'a' }
  return path === responses ? { model: 'tiny', input: 'Hi' } : { ...goodChat, max_tokens: 64 }
}

/** What the engine is asked to judge. */
async function planOf(config: Partial<HttpConfig>, fields: object, path = chat) {
  const front = guardedFront(config)
  const response = await front.post(path, { ...goodOf(path), ...fields })
  assert.equal(response.status, 200, await response.clone().text())
  return front.engine.requests.at(-1)?.safety
}

async function refusalOf(config: Partial<HttpConfig>, fields: object, path = chat) {
  const front = guardedFront(config)
  const response = await front.post(path, { ...goodOf(path), ...fields })
  const { error } = await readJson(response)
  assert.equal(front.engine.requests.length, 0)
  return { status: response.status, front, ...error }
}

const observed = {
  input: 'observe',
  reply: 'observe',
  every: 32,
  threshold: null,
  escalation: null,
  failure: 'closed',
}

/** Input passes, one token passes, the next is flagged: what a blocking engine tells. */
const blocked: Script = async function* (request) {
  yield accepted(request)
  for (let index = 0; index < request.n; index++) {
    yield verdict(index, 'input', 0.1)
    yield delta(index, 'content', 'Hel')
    yield verdict(index, 'output', 0.3, { scoredTokens: 1 })
    yield verdict(index, 'output', 0.9, { scoredTokens: 2, probe: 0.7 })
    yield finished(index, { reason: 'content_filter' })
  }
  yield done
}

describe('what is judged', () => {
  const cases: ReadonlyArray<readonly [string, Partial<HttpConfig>, object, object | null]> = [
    ['by default', {}, {}, observed],
    ['with --safety off', { safety: 'off' }, {}, null],
    ['by request, with --safety off', { safety: 'off' }, { safety: 'observe' }, observed],
    ['a mode', {}, { safety: 'block' }, { ...observed, input: 'block', reply: 'block' }],
    [
      'each side',
      {},
      { safety: { input: 'block', output: 'observe' } },
      { ...observed, input: 'block' },
    ],
    [
      'numbers',
      { safetyThreshold: 0.7, judgeEvery: 16 },
      { safety: { every: 8, threshold: 0.4 } },
      { ...observed, every: 8, threshold: 0.4 },
    ],
    [
      'the flags where the request is silent',
      { safety: 'block', safetyThreshold: 0.7, judgeEvery: 16, guardFailure: 'open' },
      {},
      {
        input: 'block',
        reply: 'block',
        every: 16,
        threshold: 0.7,
        escalation: null,
        failure: 'open',
      },
    ],
    [
      'an escalation',
      {},
      { safety: { mode: 'escalate', adapter: 'terse:2' } },
      {
        ...observed,
        input: 'escalate',
        reply: 'escalate',
        escalation: { id: 'terse', scale: 2 },
      },
    ],
    [
      "the operator's escalation",
      { escalateAdapter: { id: 'safety-r1', scale: null } },
      { safety: { output: 'escalate' } },
      { ...observed, reply: 'escalate', escalation: { id: 'safety-r1', scale: null } },
    ],
    ['moderation', { safety: 'off' }, { moderation: { model: 'watch' } }, observed],
    [
      "moderation's block",
      {},
      {
        moderation: {
          model: 'omni-moderation-latest',
          policy: { input: { mode: 'block' }, output: { mode: 'score' } },
        },
      },
      { ...observed, input: 'block' },
    ],
    [
      'both together',
      {},
      {
        safety: 'block',
        moderation: { model: 'watch', policy: { output: { mode: 'score' } } },
      },
      { ...observed, input: 'block', reply: 'block' },
    ],
  ]
  for (const [name, config, fields, expected] of cases) {
    it(`${name} is what the engine is asked`, async () => {
      assert.deepEqual(await planOf(config, fields), expected)
      const started = { ...config, begunAnswers: 'allow' } as const
      assert.deepEqual(await planOf(started, fields, completions), expected)
    })
  }
})

describe('the floor', () => {
  const escalating = {
    safety: 'escalate',
    escalateAdapter: { id: 'safety-r1', scale: 1 },
  } as const
  const less: ReadonlyArray<readonly [Partial<HttpConfig>, object, string, RegExp]> = [
    [{}, { safety: 'off' }, 'safety.input', /at least observe \(--safety\); got off/],
    [{ safety: 'block' }, { safety: 'observe' }, 'safety.input', /at least block/],
    [{ safety: 'block' }, { safety: { output: 'off' } }, 'safety.output', /got off/],
    [{ safety: 'block' }, { safety: { input: 'observe' } }, 'safety.input', /got observe/],
    [{ safety: 'block' }, { safety: { threshold: 0.6 } }, 'safety.threshold', /must be ≤ 0.5/],
    [
      { safety: 'observe', safetyThreshold: 0.2 },
      { safety: { threshold: 0.3 } },
      'safety.threshold',
      /≤ 0.2 \(--safety-threshold\)/,
    ],
    [{ safety: 'block' }, { safety: { every: 64 } }, 'safety.every', /≤ 32 \(--judge-every\)/],
    [escalating, { safety: { adapter: 'terse' } }, 'safety.adapter', /"safety-r1"/],
    [escalating, { safety: { adapter: 'safety-r1:0.5' } }, 'safety.adapter', /as strong/],
    [{ safety: 'block' }, { extra_body: { safety: 'off' } }, 'extra_body.safety.input', /off/],
    [{ safety: 'block' }, { options: { safety: 'off' } }, 'options.safety.input', /off/],
  ]
  for (const [config, fields, param, message] of less) {
    it(`refuses ${JSON.stringify(fields)} under ${JSON.stringify(config)}`, async () => {
      for (const path of chats) {
        const { status, code, front, ...error } = await refusalOf(config, fields, path)
        assert.deepEqual([status, code, error.param], [403, 'policy_floor', param], path)
        assert.match(error.message, message)
        const series = 'dutyfree_policy_floor_refusals_total{rule="safety"}'
        assert.equal(await front.metric(series), 1)
      }
    })

    it(`raises it with --policy-floor raise`, async () => {
      const raising = { ...config, policyFloor: 'raise' } as const
      for (const path of chats) {
        const plan = await planOf(raising, fields, path)
        assert.deepEqual(plan, await planOf(raising, {}, path))
      }
    })
  }

  for (const path of chats) {
    it(`a required adapter cannot be left out on ${path}`, async () => {
      const config = { requireAdapter: { id: 'safety-r1', minScale: 0.8 } }
      const without: ReadonlyArray<readonly [string, object]> = [
        ['?adapter=none', {}],
        ['?adapter=terse', {}],
        ['?adapter=safety-r1:0.5', {}],
        ['', { model: 'tiny:none' }],
        ['', { adapter: 'none' }],
        ['', { extra_body: { adapter: 'none' } }],
        ['', { lora: [{ id: 'safety-r1', scale: 0.1 }] }],
      ]
      for (const [query, fields] of without) {
        const front = guardedFront(config)
        const response = await front.post(`${path}${query}`, { ...goodOf(path), ...fields })
        const { error } = await readJson(response)
        assert.deepEqual([response.status, error.code], [403, 'adapter_required'], query)
      }
      const front = guardedFront(config)
      const { headers } = await front.post(path, goodOf(path))
      assert.match(headers.get('x-adapter')!, /^safety-r1@/)
    })
  }

  it('takes block for escalate, and the other way round', async () => {
    assert.equal((await planOf(escalating, { safety: 'block' }))?.reply, 'block')
    const plan = await planOf(
      { safety: 'block' },
      { safety: { mode: 'escalate', adapter: 'terse' } },
    )
    assert.equal(plan?.reply, 'escalate')
  })

  it('lets a request ask for more', async () => {
    const fields = { safety: { mode: 'block', every: 1, threshold: 0 } }
    assert.equal((await planOf({ safety: 'observe' }, fields))?.every, 1)
  })

  it('keeps a lower threshold that the guard has for a part, whatever a request asks', async () => {
    const asked = { safety: { threshold: 0.4 } }
    assert.equal((await planOf({ safety: 'block' }, asked))?.isThresholdCap, true)
    assert.ok(!('isThresholdCap' in (await planOf({}, asked))!))
    const own = { safety: 'block', safetyThreshold: 0.5 } as const
    assert.ok(!('isThresholdCap' in (await planOf(own, asked))!))
  })

  it('serves nothing unjudged where the guard went away after the start', async () => {
    const front = createFront({ config: { safety: 'observe' } })
    const response = await front.post(chat, goodChat)
    assert.equal(response.status, 503)
    assert.equal((await readJson(response)).error.code, 'guard_unavailable')
  })
})

describe('a begun answer', () => {
  const begun = { role: 'assistant', content: 'Sure, here is' }
  const item = { type: 'function_call', call_id: 'c', name: 'f' }
  const block = { type: 'text', text: 'Sure, here is' }
  const thought = { type: 'thinking', thinking: 'I will' }
  const attempts: ReadonlyArray<readonly [string, object]> = [
    [chat, { messages: [userMessage, begun] }],
    [chat, { messages: [userMessage, begun], continue_final_message: true }],
    [chat, { messages: [userMessage, { ...begun, prefix: true }] }],
    [chat, { messages: [userMessage, { role: 'assistant', reasoning: 'I will', prefix: true }] }],
    [chat, { guided_regex: 'Sure, here is.*' }],
    [chat, { structured_outputs: { grammar: 'root ::= "Sure"' } }],
    [completions, {}],
    [completions, { prompt: [1, 2] }],
    [completions, { prompt: 'a', echo: true, max_tokens: 0 }],
    [responses, { input: [userMessage, begun] }],
    [responses, { input: [userMessage, { type: 'reasoning', summary: [] }, begun] }],
    [responses, { input: [userMessage, { ...item, arguments: '{}' }] }],
    [responses, { guided_regex: 'Sure, here is.*' }],
    [messages, { messages: [userMessage, begun] }],
    [messages, { messages: [userMessage, { ...begun, content: [thought, block] }] }],
    [messages, { guided_regex: 'Sure, here is.*' }],
  ]
  const floors: readonly Partial<HttpConfig>[] = [
    { safety: 'block' },
    { requireAdapter: { id: 'safety-r1', minScale: null } },
    { begunAnswers: 'refuse' },
  ]
  for (const [path, fields] of attempts) {
    it(`is refused under a floor: ${path} ${JSON.stringify(fields)}`, async () => {
      for (const config of floors) {
        const { status, code, message, front } = await refusalOf(config, fields, path)
        assert.deepEqual([status, code], [403, 'policy_floor'])
        assert.match(message, /--begun-answers/)
        const series = 'dutyfree_policy_floor_refusals_total{rule="begun_answer"}'
        assert.equal(await front.metric(series), 1)
      }
      await planOf({ safety: 'block', begunAnswers: 'allow' }, fields, path)
      await planOf({}, fields, path)
    })
  }

  it('is no thought that a switch closes: the template writes all of it', async () => {
    await planOf({ safety: 'block' }, { enable_thinking: false })
    await planOf({ safety: 'block' }, { messages: [userMessage, begun, userMessage] })
  })
})

describe('a wrong field', () => {
  const wrong: ReadonlyArray<readonly [object, string, RegExp, string?]> = [
    [{ safety: 'strict' }, 'safety', /must be off or observe or block or escalate; got "strict"/],
    [{ safety: 3 }, 'safety', /must be/],
    [{ safety: { every: 0 } }, 'safety.every', /must be ≥ 1; got 0/],
    [{ safety: { every: 1.5 } }, 'safety.every', /whole number/],
    [{ safety: { every: 5000 } }, 'safety.every', /must be ≤ 4096/],
    [{ safety: { threshold: 1.2 } }, 'safety.threshold', /must be ≤ 1/],
    [{ safety: { adapter: 'terse' } }, 'safety.adapter', /only allowed with "escalate"/],
    [{ safety: 'escalate' }, 'safety.adapter', /it is missing/],
    [{ safety: { mode: 'escalate', adapter: 'a b' } }, 'safety.adapter', /adapter name/],
    [
      { safety: { mode: 'escalate', adapter: 'nobody' } },
      'safety.adapter',
      /"nobody" does not exist/,
      'model_not_found',
    ],
    [{ safety: { modes: 'block' } }, 'safety', /not "modes"/],
    [{ moderation: { model: 'watch', mode: 'block' } }, 'moderation', /not "mode"/],
    [{ moderation: { model: 'watch', policy: { text: {} } } }, 'moderation.policy', /not "text"/],
    [{ moderation: {} }, 'moderation.model', /must be a string; it is missing/],
    [{ moderation: { model: 'other' } }, 'moderation.model', /is "watch"/, 'model_not_found'],
    [
      { moderation: { model: 'watch', policy: { output: { mode: 'no' } } } },
      'moderation.policy.output.mode',
      /must be score or block/,
    ],
    [
      { safety: 'observe', moderation: { model: 'watch', policy: { input: { mode: 'block' } } } },
      'moderation.policy.input.mode',
      /contradict/,
    ],
    [
      { safety: 'off', moderation: { model: 'watch' } },
      'moderation.policy.input.mode',
      /contradict/,
    ],
    [{ stream_options: { include_safety: true } }, 'stream_options', /"stream": true/],
    [{ adapter: { id: 'terse', from: 'middle' } }, 'adapter.from', /start or answer/],
    [{ adapter: { id: 'terse', until: 'end' } }, 'adapter.until', /answer/],
    [{ adapter: { id: 'terse', from: 'answer', until: 'answer' } }, 'adapter', /leave nothing/],
  ]
  for (const [fields, param, message, code = 'invalid_value'] of wrong) {
    it(`is named: ${JSON.stringify(fields)}`, async () => {
      const error = await refusalOf({ safety: 'off' }, fields)
      assert.deepEqual([error.code, error.param], [code, param], error.message)
      assert.match(error.message, message)
    })
  }

  it('is also one that needs a guard where there is none', async () => {
    const front = createFront()
    for (const fields of [
      { safety: 'observe' },
      { safety: { output: 'block' } },
      { moderation: { model: 'omni-moderation-latest' } },
    ]) {
      const response = await front.post(chat, { ...goodChat, ...fields })
      const { error } = await readJson(response)
      assert.deepEqual([response.status, error.code], [400, 'unsupported_value'])
      assert.match(error.message, /\(--guard\)/)
    }
    const response = await front.post(chat, { ...goodChat, safety: 'off' })
    assert.equal((await readJson(response)).safety, null)
    assert.equal(response.headers.get('x-safety'), 'off')
  })
})

describe('the part of a reply that an adapter acts in', () => {
  it('reaches the engine, and is attested in the words of the request', async () => {
    const front = guardedFront()
    const body = {
      ...goodChat,
      adapter: [
        { id: 'terse', from: 'answer' },
        { id: 'safety-r1', scale: 2, from: 'start', until: 'answer' },
      ],
    }
    const response = await front.post(chat, body)
    assert.deepEqual(front.engine.requests[0]?.adapters, [
      { id: 'terse', scale: null, span: 'answer' },
      { id: 'safety-r1', scale: 2, span: 'thought' },
    ])
    const { adapter } = await readJson(response)
    assert.deepEqual(
      adapter.map(({ digest: _, ...rest }: { digest: string }) => rest),
      [
        { id: 'terse', scale: 0.5, from: 'answer' },
        { id: 'safety-r1', scale: 2, until: 'answer' },
      ],
    )
    assert.match(
      response.headers.get('x-adapter') ?? '',
      /scale=0\.5;from=answer, .*;until=answer$/,
    )
  })

  it('agrees with fields that cannot say it, and not with another', async () => {
    const front = guardedFront()
    const spanned = { id: 'terse', from: 'answer' }
    const agreed = await front.post(chat, { ...goodChat, model: 'terse', adapter: spanned })
    assert.equal(agreed.status, 200)
    const other = [{ id: 'terse', until: 'answer' }]
    const refused = await front.post(chat, { ...goodChat, adapter: spanned, lora: other })
    assert.equal((await readJson(refused)).error.code, 'adapter_conflict')
  })
})

describe('what a client is told', () => {
  const guard = { kind: 'adapter', id: 'watch', digest, certified: true }

  it('is in the body, the choice, the header, the log and the metrics', async () => {
    const front = guardedFront({}, blocked)
    const response = await front.post(chat, { ...goodChat, safety: 'block' })
    assert.equal(response.headers.get('x-safety'), `block; guard=watch@${digest}`)
    const body = await readJson(response)
    const [choice] = body.choices
    assert.deepEqual(
      [choice.finish_reason, choice.message.content, choice.message.refusal],
      ['content_filter', 'Hel', null],
    )
    assert.deepEqual(body.safety, {
      mode: 'block',
      input_mode: 'block',
      input: { score: 0.1, threshold: 0.5, flagged: false, certified: true },
      reasoning: null,
      output: { score: 0.9, threshold: 0.5, flagged: true, certified: true },
      probe: 0.7,
      verdicts: 3,
      failures: 0,
      scored_tokens: 2,
      truncated: false,
      escalated: null,
      every: 32,
      threshold: fakeGuard.threshold,
      guard,
    })
    assert.deepEqual(choice.safety, body.safety)
    assert.equal(front.log.at(-1)?.fields.safety, `block; guard=watch@${digest}`)
    const labels = '{part="output",adapter="none"}'
    assert.equal(await front.metric(`dutyfree_safety_blocked_total${labels}`), 1)
    assert.equal(await front.metric(`dutyfree_safety_flagged_total${labels}`), 1)
    assert.equal(await front.metric(`dutyfree_safety_score_count${labels}`), 2)
    const outcome = 'dutyfree_requests_total{adapter="none",outcome="content_filter"}'
    assert.equal(await front.metric(outcome), 1)
  })

  it('tells an input mode of its own, and a guard that was not measured on these adapters', async () => {
    const script: Script = async function* (request) {
      const first = accepted(request)
      assert.ok(first.kind === 'accepted')
      yield { ...first, guard: { ...fakeGuard, certified: false } }
      yield verdict(0, 'input', 0.1, { certified: false })
      yield* [finished(0), done]
    }
    const front = guardedFront({}, script)
    const response = await front.post(chat, { ...goodChat, safety: { output: 'block' } })
    const expected = `block; input=observe; guard=watch@${digest}; certified=false`
    assert.equal(response.headers.get('x-safety'), expected)
    const { safety } = await readJson(response)
    assert.equal(safety.guard.certified, false)
    assert.equal(safety.input.certified, false)
    const series = 'dutyfree_safety_uncertified_total{part="input",adapter="none"}'
    assert.equal(await front.metric(series), 1)
  })

  it('is of each choice where there are several', async () => {
    const front = guardedFront({}, blocked)
    const body = await readJson(await front.post(chat, { ...goodChat, n: 2 }))
    assert.ok(!('safety' in body))
    assert.deepEqual(
      body.choices.map((one: { safety: { verdicts: number } }) => one.safety.verdicts),
      [3, 3],
    )
    const prompts = { model: 'tiny', prompt: ['a', 'b'], n: 2 }
    const several = await readJson(await front.post(completions, prompts))
    assert.equal(several.choices[3].safety.output.score, 0.9)
  })

  it('says what was truncated, what failed, and what went on with another adapter', async () => {
    const adapters = [{ id: 'terse', digest: digestOf('terse'), scale: 2 }]
    const script: Script = async function* (request) {
      yield accepted(request)
      yield verdict(0, 'output', 0.2, { scoredTokens: 3 })
      yield verdict(0, 'output', 0.8, { scoredTokens: 8 })
      yield { kind: 'escalated', index: 0, keptTokens: 3, droppedTokens: 5, adapters }
      yield verdict(0, 'output', null)
      yield verdict(0, 'output', null, { skipped: 'truncated' })
      yield* [finished(0), done]
    }
    const front = guardedFront({}, script)
    const { safety } = await readJson(await front.post(chat, goodChat))
    assert.deepEqual([safety.truncated, safety.failures, safety.verdicts], [true, 1, 2])
    // That of the text that was dropped is not of the answer.
    assert.deepEqual(safety.output, { score: 0.2, threshold: 0.5, flagged: false, certified: true })
    assert.equal(safety.scored_tokens, 3)
    const adapter = [{ id: 'terse', digest: digestOf('terse').slice(0, 12), scale: 2 }]
    const because = { part: 'output', score: 0.8 }
    assert.deepEqual(safety.escalated, { kept_tokens: 3, dropped_tokens: 5, because, adapter })
    assert.equal(await front.metric('dutyfree_safety_escalated_total{adapter="none"}'), 1)
  })

  it('rides on ordinary chunks of a stream, and always on the last of a choice', async () => {
    const front = guardedFront({}, blocked)
    for (const path of [chat, completions]) {
      const good = path === chat ? goodChat : { model: 'tiny', prompt: 'a' }
      const response = await front.post(path, { ...good, n: 2, stream: true })
      const events = parseEvents(await response.text())
      // biome-ignore lint/suspicious/noExplicitAny: a test asserts on whatever came
      const chunks = events.slice(0, -1) as any[]
      assert.ok(chunks.every(({ choices }) => choices.length === 1))
      const riding = chunks.filter((chunk) => 'safety' in chunk)
      assert.deepEqual(
        riding.map(({ safety, choices }) => [
          safety.index,
          choices[0].index,
          choices[0].finish_reason,
          safety.verdicts,
        ]),
        [
          [0, 0, null, 1],
          [0, 0, 'content_filter', 3],
          [1, 1, null, 1],
          [1, 1, 'content_filter', 3],
        ],
      )
    }
  })

  it('comes in chunks of its own only to who asks', async () => {
    const front = guardedFront({}, blocked)
    const asking = { ...goodChat, stream: true, stream_options: { include_safety: true } }
    const events = parseEvents(await (await front.post(chat, asking)).text())
    // biome-ignore lint/suspicious/noExplicitAny: a test asserts on whatever came
    const own = (events.slice(0, -1) as any[]).filter(({ choices }) => choices.length === 0)
    assert.deepEqual(
      own.map(({ safety }) => safety.verdicts),
      [1, 2, 3],
    )
  })

  it('is null where nothing is judged, in a stream on its first chunk', async () => {
    const front = createFront()
    const body = await readJson(await front.post(chat, goodChat))
    assert.equal(body.safety, null)
    assert.ok(!('safety' in body.choices[0]))
    const text = await (await front.post(chat, { ...goodChat, stream: true })).text()
    // biome-ignore lint/suspicious/noExplicitAny: a test asserts on whatever came
    const chunks = parseEvents(text).slice(0, -1) as any[]
    assert.equal(chunks[0].safety, null)
    assert.ok(chunks.slice(1).every((chunk) => !('safety' in chunk)))
  })
})
