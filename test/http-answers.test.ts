// What good requests get: bodies, chunks and headers, in-process over the fake engine.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  accepted,
  answer,
  createFakeEngine,
  delta,
  digestOf,
  done,
  failed,
  finished,
  hang,
  type Script,
} from './support/fake-engine.ts'
import { createFront, goodChat, parseEvents, readJson, until } from './support/front.ts'
import { toPromptTable } from './support/prompt-table.ts'

const chat = '/v1/chat/completions'
const completions = '/v1/completions'

// biome-ignore lint/suspicious/noExplicitAny: a test asserts on whatever came
const chunksOf = async (response: Response): Promise<any[]> => parseEvents(await response.text())

describe('a chat answer', () => {
  it('holds thought, content, usage and what was applied', async () => {
    const front = createFront()
    const response = await front.post(`${chat}?adapter=safety-r1:0.5,terse`, goodChat)
    const digest = digestOf('safety-r1').slice(0, 12)
    const second = digestOf('terse').slice(0, 12)
    assert.equal(
      response.headers.get('x-adapter'),
      `safety-r1@${digest};scale=0.5, terse@${second};scale=0.5`,
    )
    const body = await readJson(response)
    assert.match(body.id, /^chatcmpl-[0-9a-f]{32}$/)
    assert.equal(body.object, 'chat.completion')
    assert.equal(body.model, 'tiny')
    assert.deepEqual(body.choices, [
      {
        index: 0,
        message: {
          role: 'assistant',
          content: 'Hello there 🙂',
          refusal: null,
          reasoning: 'Let me think.',
          reasoning_content: 'Let me think.',
        },
        logprobs: null,
        finish_reason: 'stop',
        stop_reason: null,
      },
    ])
    assert.deepEqual(body.usage, {
      prompt_tokens: 7,
      completion_tokens: 4,
      total_tokens: 11,
      prompt_tokens_details: { cached_tokens: 2 },
      completion_tokens_details: { reasoning_tokens: 2 },
    })
    assert.deepEqual(body.adapter, [
      { id: 'safety-r1', digest, scale: 0.5 },
      { id: 'terse', digest: second, scale: 0.5 },
    ])
  })

  it('says none when the base answered', async () => {
    const response = await createFront().post(chat, goodChat)
    assert.equal(response.headers.get('x-adapter'), 'none')
    assert.deepEqual((await readJson(response)).adapter, [])
  })

  it('content is empty when the thought was cut: in one body, and in a stream', async () => {
    const script = async function* (request: Parameters<typeof accepted>[0]) {
      yield accepted(request)
      yield delta(0, 'reasoning', 'endless')
      yield finished(0, { reason: 'length' as const })
      yield done
    }
    const front = createFront({ engine: createFakeEngine({ script }) })
    const { choices } = await readJson(await front.post(chat, goodChat))
    assert.equal(choices[0].message.content, '')
    assert.equal(choices[0].message.reasoning, 'endless')
    assert.equal(choices[0].finish_reason, 'length')
    const chunks = await chunksOf(await front.post(chat, { ...goodChat, stream: true }))
    const contents = chunks.flatMap(({ choices }) => choices?.[0]?.delta.content ?? [])
    assert.deepEqual(contents, [''])
  })

  it('hides the thought, its logprobs too, when include_reasoning is false', async () => {
    const body = { ...goodChat, include_reasoning: false, logprobs: true }
    const { choices } = await readJson(await createFront().post(chat, body))
    assert.equal('reasoning' in choices[0].message, false)
    assert.equal('reasoning_content' in choices[0].message, false)
    assert.equal(choices[0].logprobs.content.length, 2)
  })

  for (const field of ['reasoning', 'reasoning_content'] as const) {
    it(`--reasoning-field ${field} sends that one only`, async () => {
      const front = createFront({ config: { reasoningField: field } })
      const { message } = (await readJson(await front.post(chat, goodChat))).choices[0]
      const fields = Object.keys(message).filter((key) => key.startsWith('reasoning'))
      assert.deepEqual(fields, [field])
    })
  }

  it('gives logprobs in OpenAI’s shape', async () => {
    const body = { ...goodChat, logprobs: true, top_logprobs: 2 }
    const { choices } = await readJson(await createFront().post(chat, body))
    assert.equal(choices[0].logprobs.content.length, 4)
    assert.deepEqual(choices[0].logprobs.content[2], {
      token: 'Hello',
      logprob: -0.25,
      bytes: [72, 101, 108, 108, 111],
      top_logprobs: [
        { token: 'Hello', logprob: -0.25, bytes: [72, 101, 108, 108, 111] },
        { token: '?', logprob: -1.5, bytes: [63] },
      ],
    })
  })

  it('resolves defaults from the checkpoint and passes everything else through', async () => {
    const front = createFront()
    await front.post(chat, { ...goodChat, seed: 5, stop: 'x', max_tokens: 9, top_k: -1, n: 2 })
    const [request] = front.engine.requests
    assert.deepEqual(request?.sampling, {
      temperature: 0.6,
      topP: 0.95,
      topK: 0,
      minP: 0,
      presencePenalty: 0,
      frequencyPenalty: 0,
      repetitionPenalty: 1,
      logitBias: [],
      minTokens: 0,
      ignoreEos: false,
      stop: ['x'],
      stopTokenIds: [],
      includeStopInOutput: false,
      badWords: [],
      allowedTokens: null,
      skipSpecialTokens: true,
      seed: 5n,
    })
    assert.equal(request?.maxTokens, 9)
    assert.equal(request?.n, 2)
    assert.equal(request?.topLogprobs, null)
    assert.equal(request?.splitReasoning, true)
  })

  it('without a seed two requests get different ones', async () => {
    const front = createFront()
    await front.post(chat, goodChat)
    await front.post(chat, goodChat)
    const [first, second] = front.engine.requests
    // Two random 64-bit numbers are equal once in 10^19.
    assert.notEqual(first?.sampling.seed, second?.sampling.seed)
  })
})

describe('a chat stream', () => {
  it('is one id, one role per choice, the adapter once, and ends in [DONE]', async () => {
    const body = { ...goodChat, stream: true, n: 2, adapter: 'safety-r1' }
    const response = await createFront().post(chat, body)
    assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8')
    assert.match(response.headers.get('x-adapter') ?? '', /^safety-r1@[0-9a-f]{12};scale=1$/)
    const events = await chunksOf(response)
    assert.equal(events.at(-1), '[DONE]')
    const chunks = events.slice(0, -1)
    assert.equal(new Set(chunks.map(({ id }) => id)).size, 1)
    assert.ok(chunks.every((chunk) => !('usage' in chunk)))
    assert.deepEqual(
      chunks.map((chunk) => 'adapter' in chunk),
      chunks.map((_, i) => i === 0),
    )
    for (const index of [0, 1]) {
      const ofChoice = chunks.map(({ choices }) => choices[0]).filter((c) => c.index === index)
      assert.deepEqual(
        ofChoice.map(({ delta }) => delta.role),
        ['assistant', ...Array(ofChoice.length - 1).fill(undefined)],
      )
      assert.deepEqual(
        ofChoice.map(({ finish_reason }) => finish_reason),
        [...Array(ofChoice.length - 1).fill(null), 'stop'],
      )
      assert.deepEqual(ofChoice.at(-1).delta, {})
      const text = (field: string) => ofChoice.map(({ delta }) => delta[field] ?? '').join('')
      assert.equal(text('reasoning'), 'Let me think.')
      assert.equal(text('reasoning_content'), 'Let me think.')
      assert.equal(text('content'), 'Hello there 🙂')
    }
  })

  it('sends usage only when asked, last, with no choices', async () => {
    const body = { ...goodChat, stream: true, stream_options: { include_usage: true } }
    const chunks = (await chunksOf(await createFront().post(chat, body))).slice(0, -1)
    assert.ok(chunks.slice(0, -1).every(({ usage }) => usage === null))
    assert.deepEqual(chunks.at(-1).choices, [])
    assert.equal(chunks.at(-1).usage.total_tokens, 11)
  })

  it('continuous_usage_stats counts on every chunk', async () => {
    const stream_options = { include_usage: true, continuous_usage_stats: true }
    const body = { ...goodChat, stream: true, stream_options }
    const chunks = (await chunksOf(await createFront().post(chat, body))).slice(0, -1)
    const counts = chunks.map(({ usage }) => usage.completion_tokens)
    assert.deepEqual(counts, [0, 1, 2, 3, 4, 4, 4])
  })

  it('an error before `accepted` has its own status', async () => {
    const script = async function* () {
      yield failed('context_length_exceeded', 'the prompt has 600 tokens, the context is 512')
    }
    const front = createFront({ engine: createFakeEngine({ script }) })
    const response = await front.post(chat, { ...goodChat, stream: true })
    assert.equal(response.status, 400)
    assert.equal((await readJson(response)).error.code, 'context_length_exceeded')
  })

  it('an error after the headers is one event, then [DONE]', async () => {
    const script = async function* (request: Parameters<typeof accepted>[0]) {
      yield accepted(request)
      yield delta(0, 'content', 'Hel')
      yield failed('engine_crashed', 'the engine stopped')
    }
    const front = createFront({ engine: createFakeEngine({ script }) })
    const events = await chunksOf(await front.post(chat, { ...goodChat, stream: true }))
    assert.equal(events.at(-1), '[DONE]')
    assert.deepEqual(events.at(-2), {
      error: {
        message: 'the engine stopped',
        type: 'server_error',
        param: null,
        code: 'engine_crashed',
      },
    })
    assert.equal(events.filter((event) => event.error).length, 1)
    const requests = 'dutyfree_requests_total{adapter="none",outcome="engine_crashed"}'
    assert.equal(await front.metric(requests), 1)
  })

  it('a stream whose engine says nothing more ends in an error, not in silence', async () => {
    const script = async function* (request: Parameters<typeof accepted>[0]) {
      yield accepted(request)
      throw new Error('broken promise')
    }
    const front = createFront({ engine: createFakeEngine({ script }) })
    const events = await chunksOf(await front.post(chat, { ...goodChat, stream: true }))
    assert.equal(events.at(-2).error.code, 'server_error')
    assert.equal(events.at(-1), '[DONE]')
  })

  it('fills silence with comments', async () => {
    const front = createFront({
      engine: createFakeEngine({ script: hang({ accept: true }) }),
      streamLimits: { keepAliveMs: 5, maxBufferedBytes: 10_000, slowReaderMs: 1000 },
    })
    const response = await front.post(chat, { ...goodChat, stream: true })
    const reader = response.body!.getReader()
    let text = ''
    while (!text.includes(': keep-alive\n\n: keep-alive')) {
      text += Buffer.from((await reader.read()).value!).toString()
    }
    await reader.cancel()
    await until(1000, 'generation cancelled', () => front.engine.cancelled.length === 1)
  })
})

describe('deadlines and places', () => {
  it('a request past its deadline is 504 and its generation is cancelled', async () => {
    const engine = createFakeEngine({ script: hang({ accept: true }) })
    const front = createFront({ engine, config: { requestTimeout: 20 } })
    const response = await front.post(chat, goodChat)
    assert.equal(response.status, 504)
    assert.equal((await readJson(response)).error.code, 'timeout')
    assert.equal(engine.cancelled.length, 1)
    assert.equal(front.app.admission.numInFlight, 0)
  })

  it('a stream past its deadline ends in an error event', async () => {
    const engine = createFakeEngine({ script: hang({ accept: true }) })
    const front = createFront({ engine, config: { requestTimeout: 20 } })
    const events = await chunksOf(await front.post(chat, { ...goodChat, stream: true }))
    assert.equal(events.at(-2).error.code, 'timeout')
    assert.equal(events.at(-1), '[DONE]')
  })

  it('a full queue is 429 with Retry-After, and room comes back', async () => {
    const engine = createFakeEngine({ script: hang({ accept: true }) })
    const front = createFront({ engine, config: { maxBatch: 1, maxQueue: 1 } })
    const client = new AbortController()
    const stream = { ...goodChat, stream: true }
    const held = [
      await front.post(chat, stream, { signal: client.signal }),
      await front.post(chat, stream, { signal: client.signal }),
    ]
    assert.ok(held.every(({ status }) => status === 200))
    const refused = await front.post(chat, stream)
    assert.equal(refused.status, 429)
    assert.equal((await readJson(refused)).error.code, 'rate_limit_exceeded')
    assert.ok(Number(refused.headers.get('retry-after')) >= 1)
    client.abort()
    await until(1000, 'room', () => front.app.admission.numInFlight === 0)
    engine.script = answer
    assert.equal((await front.post(chat, goodChat)).status, 200)
    assert.equal(engine.cancelled.length, 2)
  })

  it('a client that goes before the answer frees its place', async () => {
    const engine = createFakeEngine({ script: hang({ accept: false }) })
    const front = createFront({ engine })
    const client = new AbortController()
    const pending = front.post(chat, goodChat, { signal: client.signal })
    await until(1000, 'submission', () => engine.requests.length === 1)
    client.abort()
    await pending.catch(() => {})
    assert.equal(engine.cancelled.length, 1)
    assert.equal(front.app.admission.numInFlight, 0)
    const gone = 'dutyfree_client_disconnects_total{stage="before_response"}'
    assert.equal(await front.metric(gone), 1)
  })

  it('while draining new requests are 503 and the connection closes', async () => {
    const front = createFront()
    front.app.admission.drain()
    const response = await front.post(chat, goodChat)
    assert.equal(response.status, 503)
    assert.equal((await readJson(response)).error.code, 'shutting_down')
    assert.equal(response.headers.get('connection'), 'close')
    assert.equal((await front.request('/health/ready')).status, 503)
    assert.equal((await front.request('/health/live')).status, 200)
  })

  it('stopping ends a running stream in an error event', async () => {
    const engine = createFakeEngine({ script: hang({ accept: true }) })
    const front = createFront({ engine })
    const response = await front.post(chat, { ...goodChat, stream: true })
    front.app.admission.stopAll()
    const events = await chunksOf(response)
    assert.equal(events.at(-2).error.code, 'shutting_down')
    assert.equal(events.at(-1), '[DONE]')
    assert.equal(engine.cancelled.length, 1)
  })
})

describe('a required adapter', () => {
  const config = { requireAdapter: { id: 'safety-r1', minScale: 0.8 } }

  it('is applied to silent requests on both routes, and said', async () => {
    const front = createFront({ config: { ...config, begunAnswers: 'allow' } })
    const answers = [
      await front.post(chat, goodChat),
      await front.post(completions, { model: 'tiny', prompt: 'a' }),
    ]
    for (const response of answers) {
      assert.match(response.headers.get('x-adapter') ?? '', /^safety-r1@[0-9a-f]{12};scale=1$/)
    }
  })

  it('cannot be switched off, weakened or replaced', async () => {
    let numRun = 0
    const script: Script = (request, signal) => {
      numRun++
      return answer(request, signal)
    }
    const front = createFront({ config, engine: createFakeEngine({ script }) })
    const attempts = [
      ['?adapter=none', {}],
      ['?adapter=safety-r1:0', {}],
      ['', { adapter: { id: 'safety-r1', scale: 0.5 } }],
      ['', { model: 'terse' }],
      ['', { model: 'tiny:none' }],
      ['', { lora: [{ id: 'terse', scale: 1 }] }],
    ] as const
    for (const [query, fields] of attempts) {
      const response = await front.post(`${chat}${query}`, { ...goodChat, ...fields })
      assert.equal(response.status, 403)
      assert.equal((await readJson(response)).error.code, 'adapter_required')
    }
    assert.equal(numRun, 0)
  })

  it('without a minimum is decided by what the engine loads, not by the list of the front', async () => {
    const required = { id: 'terse', minScale: null }
    const front = createFront({ config: { requireAdapter: required, begunAnswers: 'allow' } })
    const weak = { ...goodChat, adapter: { id: 'terse', scale: 0.5 }, stream: true }
    assert.equal((await front.post(chat, weak)).status, 200)
    // The front's list is of just now; the engine's adapter has become stronger since.
    front.engine.adapters = front.engine.adapters.map((one) => ({ ...one, defaultScale: 1.5 }))
    const refused = await front.post(chat, weak)
    assert.equal(refused.status, 403)
    assert.match(refused.headers.get('content-type') ?? '', /^application\/json/)
    const { error } = await readJson(refused)
    assert.deepEqual([error.code, error.param], ['adapter_required', 'adapter'])
    assert.match(error.message, /strength 1\.5 or more/)
    const silent = await front.post(chat, goodChat)
    assert.match(silent.headers.get('x-adapter') ?? '', /^terse@[0-9a-f]{12};scale=1\.5$/)
    const several = { model: 'tiny', prompt: ['a', 'b'], n: 2, adapter: 'terse:1' }
    assert.equal((await front.post(completions, several)).status, 403)
  })
})

describe('plain completions', () => {
  it('never answer with two versions of an adapter: the whole request fails', async () => {
    const script: Script = async function* (request) {
      const isOlder = request.prompt.kind === 'text' && request.prompt.text === 'a'
      const digest = (isOlder ? 'a' : 'b').repeat(64)
      yield {
        kind: 'accepted',
        promptTokens: 7,
        adapters: [{ id: 'terse', digest, scale: 1 }],
        guard: null,
      }
      yield* [finished(0), done]
    }
    const front = createFront({ engine: createFakeEngine({ script }) })
    const body = { model: 'tiny', adapter: 'terse', prompt: ['a', 'a', 'b'] }
    const refused = await front.post(completions, body)
    assert.equal(refused.status, 503)
    assert.equal((await readJson(refused)).error.code, 'adapter_unavailable')
    assert.equal(front.engine.cancelled.length, 3)
    const same = await front.post(completions, { ...body, prompt: ['a', 'a'] })
    assert.equal(same.status, 200)
    assert.equal(same.headers.get('x-adapter'), `terse@${'a'.repeat(12)};scale=1`)
  })

  it('several prompts are several engine requests, numbered i · n + j', async () => {
    const front = createFront()
    const body = { model: 'tiny', prompt: ['a', 'b'], n: 2, seed: 3 }
    const answer = await readJson(await front.post(completions, body))
    assert.match(answer.id, /^cmpl-/)
    assert.equal(answer.object, 'text_completion')
    assert.deepEqual(
      answer.choices.map((choice: { index: number; text: string }) => [choice.index, choice.text]),
      [0, 1, 2, 3].map((index) => [index, 'Hello there 🙂']),
    )
    assert.equal(answer.usage.prompt_tokens, 14)
    assert.equal(answer.usage.completion_tokens, 16)
    assert.deepEqual(
      front.engine.requests.map(({ prompt }) => prompt),
      [
        { kind: 'text', text: 'a' },
        { kind: 'text', text: 'b' },
      ],
    )
    assert.ok(front.engine.requests.every(({ splitReasoning }) => !splitReasoning))
    assert.ok(front.engine.requests.every(({ sampling }) => sampling.seed === 3n))
  })

  it('takes one list of tokens and lists of them', async () => {
    const front = createFront()
    await front.post(completions, { model: 'tiny', prompt: [1, 2] })
    await front.post(completions, { model: 'tiny', prompt: [[1], [2, 3]] })
    assert.deepEqual(
      front.engine.requests.map(({ prompt }) => prompt),
      [[1, 2], [1], [2, 3]].map((tokens) => ({ kind: 'tokens', tokens })),
    )
  })

  it('gives logprobs in the legacy shape', async () => {
    const body = { model: 'tiny', prompt: 'a', logprobs: 2 }
    const { choices } = await readJson(await createFront().post(completions, body))
    assert.deepEqual(choices[0].logprobs, {
      tokens: ['Hello', ' there 🙂'],
      token_logprobs: [-0.25, -0.25],
      top_logprobs: [
        { Hello: -0.25, '?': -1.5 },
        { ' there 🙂': -0.25, '?': -1.5 },
      ],
      text_offset: [0, 5],
    })
  })

  /** Echoes "a b" before the usual answer, where the request wants it. */
  const echoing: Script = async function* (request, signal) {
    const likely = delta(0, 'content', ' b', request.promptLogprobs)
    const entries = likely.kind === 'delta' ? (likely.logprobs ?? []) : []
    const second = entries.map((entry) => ({ ...entry, rank: 1 }))
    const first = { id: 4, token: 'a', bytes: [97], logprob: null, rank: null, top: [] }
    const logprobs = request.promptLogprobs === null ? null : toPromptTable([first, ...second])
    for await (const event of answer(request, signal)) {
      yield event
      if (event.kind === 'accepted') yield { kind: 'prompt', index: 0, text: 'a b', logprobs }
    }
  }

  it('echoes the prompt, with its logprobs before those of the answer', async () => {
    const front = createFront({ engine: createFakeEngine({ script: echoing }) })
    const body = { model: 'tiny', prompt: ['x', 'y'], echo: true, logprobs: 1, n: 2 }
    const { choices } = await readJson(await front.post(completions, body))
    assert.equal(choices.length, 4)
    for (const choice of choices) {
      assert.equal(choice.text, 'a bHello there 🙂')
      assert.deepEqual(choice.logprobs, {
        tokens: ['a', ' b', 'Hello', ' there 🙂'],
        token_logprobs: [null, -0.25, -0.25, -0.25],
        top_logprobs: [null, { ' b': -0.25 }, { Hello: -0.25 }, { ' there 🙂': -0.25 }],
        text_offset: [0, 1, 3, 8],
      })
    }
    assert.ok(front.engine.requests.every(({ promptLogprobs }) => promptLogprobs === 1))
  })

  it('echoes text alone where no logprobs are asked for, and takes max_tokens 0', async () => {
    const front = createFront({ engine: createFakeEngine({ script: echoing }) })
    const body = { model: 'tiny', prompt: 'x', echo: true, max_tokens: 0 }
    const { choices } = await readJson(await front.post(completions, body))
    assert.equal(choices[0].text, 'a bHello there 🙂')
    assert.equal(choices[0].logprobs, null)
    const [request] = front.engine.requests
    assert.deepEqual([request?.maxTokens, request?.promptLogprobs], [0, null])
  })

  it('streams the echo as the first chunk of each choice', async () => {
    const front = createFront({ engine: createFakeEngine({ script: echoing }) })
    const body = { model: 'tiny', prompt: 'x', echo: true, logprobs: 0, n: 2, stream: true }
    const chunks = (await chunksOf(await front.post(completions, body))).slice(0, -1)
    for (const index of [0, 1]) {
      const ofChoice = chunks.map(({ choices }) => choices[0]).filter((c) => c.index === index)
      assert.equal(ofChoice[0].text, 'a b')
      assert.deepEqual(ofChoice[0].logprobs.text_offset, [0, 1])
      assert.deepEqual(ofChoice[1].logprobs.text_offset, [3])
    }
  })

  it('gives prompt_logprobs by token id on both routes, as vLLM does', async () => {
    const front = createFront({ engine: createFakeEngine({ script: echoing }) })
    const want = [
      null,
      {
        5: { logprob: -0.25, rank: 1, decoded_token: ' b' },
        6: { logprob: -1.5, rank: 2, decoded_token: '?' },
      },
    ]
    const body = { model: 'tiny', prompt: 'x', prompt_logprobs: 2 }
    const { choices } = await readJson(await front.post(completions, body))
    assert.deepEqual(choices[0].prompt_logprobs, want)
    assert.equal(choices[0].text, 'Hello there 🙂')
    const messages = [{ role: 'user', content: 'x' }]
    const chat = { model: 'tiny', messages, prompt_logprobs: 2 }
    const reply = await readJson(await front.post('/v1/chat/completions', chat))
    assert.deepEqual(reply.prompt_logprobs, want)
    const { prompt_logprobs: _, ...without } = chat
    const plain = await readJson(await front.post('/v1/chat/completions', without))
    assert.equal('prompt_logprobs' in plain, false)
  })

  it('streams several prompts under one id with one [DONE]', async () => {
    const body = { model: 'tiny', prompt: ['a', 'b'], stream: true, adapter: 'terse' }
    const events = await chunksOf(await createFront().post(completions, body))
    assert.equal(events.filter((event) => event === '[DONE]').length, 1)
    const chunks = events.slice(0, -1)
    assert.equal(new Set(chunks.map(({ id }) => id)).size, 1)
    assert.deepEqual(
      chunks.map((chunk) => 'adapter' in chunk),
      chunks.map((_, i) => i === 0),
    )
    for (const index of [0, 1]) {
      const ofChoice = chunks.map(({ choices }) => choices[0]).filter((c) => c.index === index)
      assert.equal(ofChoice.map(({ text }) => text).join(''), 'Hello there 🙂')
      assert.equal(ofChoice.at(-1).finish_reason, 'stop')
    }
  })

  it('one failing prompt ends the whole request and cancels the others', async () => {
    const engine = createFakeEngine({
      script: async function* (request, signal) {
        if (request.id.endsWith('-0')) yield failed('invalid_value', 'no')
        else yield* hang({ accept: true })(request, signal)
      },
    })
    const front = createFront({ engine })
    const response = await front.post(completions, { model: 'tiny', prompt: ['a', 'b'] })
    assert.equal(response.status, 400)
    await until(1000, 'the other cancelled', () => engine.cancelled.length === 1)
    await until(1000, 'no generation left', () => engine.numRunning === 0)
    assert.equal(front.app.admission.numInFlight, 0)
  })
})

describe('models, adapters, tokens', () => {
  it('lists base and usable adapters with root and parent, and no paths', async () => {
    const front = createFront()
    const { data } = await readJson(await front.request('/v1/models'))
    assert.deepEqual(
      data.map((model: { id: string; parent: string; root: string }) => [
        model.id,
        model.parent,
        model.root,
      ]),
      [
        ['tiny', null, 'tiny'],
        ['safety-r1', 'tiny', 'adapters/safety-r1'],
        ['terse', 'tiny', 'adapters/terse'],
      ],
    )
    const one = await readJson(await front.request('/v1/models/safety-r1'))
    assert.equal(one.id, 'safety-r1')
    assert.equal(one.max_model_len, 512)
  })

  it('shows why an adapter is broken', async () => {
    const adapter = await readJson(await createFront().request('/v1/adapters/broken'))
    assert.equal(adapter.state, 'invalid')
    assert.equal(adapter.error.code, 'invalid_adapter')
  })

  it('finds a new adapter at the first request that names it', async () => {
    const front = createFront()
    const named = { ...goodChat, adapter: 'new' }
    assert.equal((await front.post(chat, named)).status, 404)
    const [first] = front.engine.adapters
    front.engine.adapters = [...front.engine.adapters, { ...first!, id: 'new' }]
    assert.equal((await front.post(chat, named)).status, 200)
  })

  it('tokenizes and detokenizes in vLLM’s shapes', async () => {
    const front = createFront()
    const there = await front.post('/tokenize', { prompt: 'ab', return_token_strs: true })
    assert.deepEqual(await readJson(there), {
      count: 2,
      max_model_len: 512,
      tokens: [97, 98],
      token_strs: ['a', 'b'],
    })
    const chatted = await front.post('/tokenize', { ...goodChat, add_generation_prompt: false })
    assert.equal((await readJson(chatted)).count, 2)
    const back = await front.post('/detokenize', { model: 'tiny', tokens: [97, 98] })
    assert.deepEqual(await readJson(back), { prompt: 'ab' })
    assert.deepEqual(await readJson(await front.post('/detokenize', { tokens: [] })), {
      prompt: '',
    })
  })

  it('openapi.json states the limits that are enforced', async () => {
    const front = createFront({ config: { maxBody: 1_000_000 } })
    const { paths } = await readJson(await front.request('/openapi.json'))
    const { properties } = paths[chat].post.requestBody.content['application/json'].schema
    const [, entry, list] = properties.adapter.oneOf
    const messages = (count: number) => Array(count).fill({ role: 'user', content: 'a' })
    const names = (count: number) => Array.from({ length: count }, (_, i) => `unknown-${i}`)
    const limits: ReadonlyArray<readonly [string, number, (size: number) => object]> = [
      ['n', properties.n.maximum, (n) => ({ n })],
      ['messages', properties.messages.maxItems, (count) => ({ messages: messages(count) })],
      ['adapter', list.maxItems, (count) => ({ adapter: names(count) })],
      [
        'adapter.scale',
        entry.properties.scale.maximum,
        (scale) => ({ adapter: { id: 'terse', scale } }),
      ],
    ]
    for (const [param, limit, fields] of limits) {
      const within = await front.post(chat, { ...goodChat, ...fields(limit) })
      assert.notEqual(within.status, 400, param)
      const beyond = await front.post(chat, { ...goodChat, ...fields(limit + 1) })
      assert.equal(beyond.status, 400, param)
      assert.equal((await readJson(beyond)).error.param, param)
    }
  })

  it('openapi.json holds exactly the routes there are', async () => {
    const front = createFront()
    const { paths } = await readJson(await front.request('/openapi.json'))
    const listed = Object.entries(paths).flatMap(([path, operations]) =>
      Object.keys(operations as object).map((method) => `${method.toUpperCase()} ${path}`),
    )
    const routes = front.app.routes.map(
      ({ method, path }) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`,
    )
    assert.deepEqual(listed.sort(), routes.sort())
    const chatBody = paths[chat].post.requestBody.content['application/json'].schema
    assert.equal(chatBody.properties.temperature !== undefined, true)
    const ok = paths['/v1/adapters/{id}'].get.responses[200].content['application/json'].schema
    const [manifest] = ok.properties.manifest.oneOf
    for (const field of ['base_digest', 'data_sha256', 'config', 'seed', 'commit', 'versions']) {
      assert.ok(field in manifest.properties, field)
    }
    assert.ok(
      'n' in
        manifest.properties.results.anyOf[0].additionalProperties.properties.shares
          .additionalProperties.properties,
    )
  })
})
