// What becomes of request fields: the table knows every field of other servers, and each request is
// answered as the table says, on both routes.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { chatSchema } from '../server/http/request/chat-request.ts'
import { completionSchema } from '../server/http/request/completion-request.ts'
import { readFields } from '../server/http/request/field-rules.ts'
import { knownFields } from '../server/http/request/known-fields.ts'
import { messageFields } from '../server/http/request/message-fields.ts'
import { readFieldsPage, renderFields } from './support/fields-page.ts'
import { createFront, goodChat, parseEvents, readJson } from './support/front.ts'
import { peerFields, peerMessageFields } from './support/peer-fields.ts'

const chat = '/v1/chat/completions'
const completions = '/v1/completions'
const goodCompletion = { model: 'tiny', prompt: 'Hi' }
const routes = [
  { route: 'chat', path: chat, good: goodChat, schema: chatSchema },
  { route: 'completions', path: completions, good: goodCompletion, schema: completionSchema },
] as const
const oddValues: readonly unknown[] = [true, false, 0, -7, 'x', '', [], ['x'], {}, { a: 1 }]

const front = createFront()

/** What the engine got of a good request with these fields. */
const asked = async (path: string, body: object) => {
  const response = await front.post(path, body)
  assert.equal(response.status, 200, await response.clone().text())
  return { response, request: front.engine.requests.at(-1)! }
}

const refusal = async (path: string, body: object) => {
  const response = await front.post(path, body)
  const { error } = await readJson(response)
  return { status: response.status, ...error }
}

describe('the table of known fields', () => {
  for (const [peer, fields] of Object.entries(peerFields)) {
    it(`knows every field of ${peer}`, () => {
      assert.deepEqual(
        fields.filter((field) => !Object.hasOwn(knownFields, field)),
        [],
      )
    })
  }

  for (const { route, schema } of routes) {
    it(`calls supported on ${route} what is parsed there, and nothing else`, () => {
      const supported = Object.keys(knownFields).filter(
        (field) => knownFields[field]![route].kind === 'supported',
      )
      assert.deepEqual(supported.sort(), Object.keys(schema.shape).sort())
    })
  }

  it('spells only supported fields in other ways', () => {
    for (const { chat: verdict } of Object.values(knownFields)) {
      if (verdict.kind === 'alias') assert.equal(knownFields[verdict.of]?.chat.kind, 'supported')
    }
  })

  for (const [peer, fields] of Object.entries(peerMessageFields)) {
    it(`knows every field of a message of ${peer}`, () => {
      assert.deepEqual(
        fields.filter((field) => !Object.hasOwn(messageFields, field)),
        [],
      )
    })
  }

  it('is what docs/FIELDS.md shows', () => {
    assert.equal(readFieldsPage(), renderFields())
  })
})

for (const { route, path, good } of routes) {
  describe(`fields on ${path}`, () => {
    it('harmless ones are taken with any value and reach nothing', () => {
      for (const [field, { [route]: verdict }] of Object.entries(knownFields)) {
        if (verdict.kind !== 'harmless') continue
        for (const value of oddValues) {
          const { body, unknown } = readFields({ ...good, [field]: value }, route)
          assert.deepEqual([body, unknown], [good, []], field)
        }
      }
    })

    it('refused ones are a 400 by name with a remedy, unless null or of no effect', async () => {
      // repeat_last_n and truncation_side say something only beside them.
      const body = { ...good, repetition_penalty: 1.5, truncate_prompt_tokens: 5 }
      for (const [field, { [route]: verdict }] of Object.entries(knownFields)) {
        if (verdict.kind !== 'refused') continue
        const wrong = oddValues.filter((value) => !verdict.unless.has(value, body))
        assert.ok(wrong.length > 0, field)
        for (const value of wrong) {
          const { status, code, param, message } = await refusal(path, { ...body, [field]: value })
          assert.deepEqual([status, param], [400, field], message)
          assert.equal(code, verdict.code)
          assert.ok(message.startsWith(field) && message.endsWith(verdict.remedy), message)
        }
        for (const value of [null, ...oddValues.filter((odd) => verdict.unless.has(odd, body))]) {
          assert.deepEqual(readFields({ ...body, [field]: value }, route).body, body, field)
        }
      }
    })

    it('other spellings reach the engine', async () => {
      const spelled: readonly (readonly [object, (request: typeof sample) => unknown, unknown])[] =
        [
          [{ max_new_tokens: 5 }, ({ maxTokens }) => maxTokens, 5],
          [{ num_predict: 5 }, ({ maxTokens }) => maxTokens, 5],
          [{ num_predict: -1 }, ({ maxTokens }) => maxTokens, null],
          [{ num_predict: -2 }, ({ maxTokens }) => maxTokens, null],
          [{ n_predict: 5 }, ({ maxTokens }) => maxTokens, 5],
          [{ options: { num_predict: 5, num_ctx: 9 } }, ({ maxTokens }) => maxTokens, 5],
          [{ options: { temperature: 0.1 } }, ({ sampling }) => sampling.temperature, 0.1],
          [{ extra_body: { options: { top_k: 3 } } }, ({ sampling }) => sampling.topK, 3],
          [{ sampling_params: { min_new_tokens: 2 } }, ({ sampling }) => sampling.minTokens, 2],
          [{ repeat_penalty: 1.5 }, ({ sampling }) => sampling.repetitionPenalty, 1.5],
          [{ do_sample: false }, ({ sampling }) => sampling.temperature, 0],
          [{ do_sample: true, temperature: 0.3 }, ({ sampling }) => sampling.temperature, 0.3],
          [{ stop_sequences: ['a'] }, ({ sampling }) => sampling.stop, ['a']],
          [{ no_stop_trim: true }, ({ sampling }) => sampling.includeStopInOutput, true],
          [{ sampling_seed: 5 }, ({ sampling }) => sampling.seed, 5n],
          [{ n_cmpl: 2 }, ({ n }) => n, 2],
          [{ lora_path: 'terse' }, ({ adapters }) => adapters, [{ id: 'terse', scale: null }]],
          [{ extra_body: { adapter: 'terse' } }, ({ adapters }) => adapters.length, 1],
        ]
      const { request: sample } = await asked(path, good)
      for (const [fields, read, expected] of spelled) {
        const { request } = await asked(path, { ...good, ...fields })
        assert.deepEqual(read(request), expected, JSON.stringify(fields))
      }
    })

    it('spellings must agree, wherever they stand', async () => {
      const contradictions: readonly (readonly [object, string])[] = [
        [{ max_tokens: 5, num_predict: 6 }, 'num_predict'],
        [{ max_tokens: 5, options: { num_predict: 6 } }, 'options.num_predict'],
        [{ max_new_tokens: 5, n_predict: 6 }, 'n_predict'],
        [{ temperature: 0.5, options: { temperature: 0.6 } }, 'options.temperature'],
        [{ temperature: 0.5, do_sample: false }, 'do_sample'],
        [{ temperature: 0, do_sample: true }, 'do_sample'],
        [{ adapter: 'terse', lora_path: 'safety-r1' }, 'lora_path'],
        [{ extra_body: { adapter: 'none' }, adapter: 'terse' }, 'extra_body.adapter'],
      ]
      for (const [fields, param] of contradictions) {
        const error = await refusal(path, { ...good, ...fields })
        assert.deepEqual([error.status, error.param], [400, param], error.message)
        assert.match(error.message, /agree/)
      }
      await asked(path, { ...good, max_tokens: 5, num_predict: 5, options: { num_predict: 5 } })
    })

    it('an error names a field as the request spells it', async () => {
      const wrong: readonly (readonly [object, string])[] = [
        [{ num_predict: 'x' }, 'num_predict'],
        [{ num_predict: 100_000 }, 'num_predict'],
        [{ options: { temperature: 9 } }, 'options.temperature'],
        [{ options: { mirostat: 2 } }, 'options.mirostat'],
        [{ options: 5 }, 'options'],
        [{ extra_body: [] }, 'extra_body'],
        [{ do_sample: 'no' }, 'do_sample'],
        [{ lora_path: ['a', 'b'] }, 'lora_path'],
        [{ lora_path: 'unknown-adapter' }, 'lora_path'],
      ]
      for (const [fields, param] of wrong) {
        const error = await refusal(path, { ...good, ...fields })
        assert.equal(error.param, param, error.message)
      }
    })

    it('values that change nothing pass', async () => {
      const free: readonly object[] = [
        { max_tokens: -1 },
        { max_completion_tokens: -1 },
        { top_k: -1 },
        { top_k: 0 },
        { top_p: 1 },
        { top_p: 0 },
        { best_of: 3, n: 3 },
        { logprobs: false },
        { top_logprobs: 0 },
        ...(route === 'chat' ? [{ logprobs: false, top_logprobs: 3 }] : []),
        { stream_options: {} },
        { stream_options: { include_usage: false } },
        { stop: [] },
        { logit_bias: {} },
        { echo: false },
        { response_format: { type: 'text' } },
        { repeat_last_n: 64 },
        { truncate_prompt_tokens: -1 },
        { tool_choice: { type: 'allowed_tools', allowed_tools: { mode: 'auto', tools: [] } } },
        { think: true },
        { reasoning: { effort: 'high' } },
        { chat_template_kwargs: { enable_thinking: true } },
      ]
      for (const fields of free) await asked(path, { ...good, ...fields })
    })

    it('tools that may go unused are, and log and header say so', async () => {
      const tools = [{ type: 'function', function: { name: 'f' } }]
      for (const choice of [{}, { tool_choice: 'auto' }, { tool_choice: 'none' }]) {
        const { response } = await asked(path, { ...good, tools, ...choice })
        assert.equal(response.headers.get('x-dutyfree-ignored'), 'tools')
        const line = front.log.findLast(({ message }) => message === 'request')
        assert.deepEqual(line?.fields.ignoredFields, ['tools'])
      }
      const streamed = await front.post(path, { ...good, tools, functions: tools, stream: true })
      assert.equal(streamed.headers.get('x-dutyfree-ignored'), 'tools, functions')
      assert.equal(parseEvents(await streamed.text()).at(-1), '[DONE]')
      const { response } = await asked(path, { ...good, tools: [] })
      assert.equal(response.headers.get('x-dutyfree-ignored'), null)
      const named = { type: 'function', function: { name: 'f' } }
      for (const choice of ['any', ...(route === 'chat' ? [] : ['required', named])]) {
        const error = await refusal(path, { ...good, tools, tool_choice: choice })
        assert.deepEqual([error.status, error.param], [400, 'tool_choice'])
      }
    })

    it('unknown ones are taken and logged, in objects too', async () => {
      await asked(path, {
        ...good,
        frobnicate: 1,
        options: { zap: 1 },
        stream: true,
        stream_options: { include_usage: true, include_moon: true },
      })
      const line = front.log.findLast(({ message }) => message === 'request')
      assert.deepEqual(line?.fields.unknownFields, [
        'frobnicate',
        'options.zap',
        'stream_options.include_moon',
      ])
    })
  })
}

describe('bounds of cost', () => {
  it('what evaluations ask for passes: five stop strings, n of 32', async () => {
    const { request } = await asked(chat, {
      ...goodChat,
      n: 32,
      stop: ['a', 'b', 'c', 'd', '</s>'],
    })
    assert.deepEqual([request.n, request.sampling.stop.length], [32, 5])
  })

  it('n × prompts and their tokens are bounded together', async () => {
    const prompt = (count: number) => Array(count).fill('a')
    await asked(completions, { model: 'tiny', prompt: prompt(8), n: 16 })
    await asked(completions, { model: 'tiny', prompt: prompt(64), n: 16, max_tokens: 64 })
    const tokens = await refusal(completions, { model: 'tiny', prompt: prompt(64), n: 16 })
    assert.deepEqual([tokens.code, tokens.param], ['unsupported_value', 'n'])
    const body = { model: 'tiny', prompt: prompt(128), n: 16, max_tokens: 1 }
    const sequences = await refusal(completions, body)
    assert.match(sequences.message, /n × prompts must be ≤ 1024; got 2048/)
  })

  it('openapi.json states them', async () => {
    const { paths } = await readJson(await front.request('/openapi.json'))
    const { properties } = paths[chat].post.requestBody.content['application/json'].schema
    const stop = properties.stop.anyOf.flatMap((one: { anyOf?: object[] }) => one.anyOf ?? [one])
    const list = stop.find((one: { type: string }) => one.type === 'array')
    assert.equal(properties.n.maximum, 128)
    for (const [size, status] of [
      [list.maxItems, 200],
      [list.maxItems + 1, 400],
    ]) {
      const response = await front.post(chat, { ...goodChat, stop: Array(size).fill('a') })
      assert.equal(response.status, status)
    }
  })
})

describe('one rule on every route', () => {
  it('an adapter that does not exist is a 404, also for /tokenize and /detokenize', async () => {
    const bodies = [
      [chat, goodChat],
      [completions, goodCompletion],
      ['/tokenize', { prompt: 'a' }],
      ['/detokenize', { tokens: [1] }],
    ] as const
    for (const [path, body] of bodies) {
      for (const [field, value] of [
        ['adapter', 'unknown'],
        ['adapter_id', 'unknown'],
        ['lora', [{ id: 'unknown' }]],
        ['lora_path', 'unknown'],
      ] as const) {
        const error = await refusal(path, { ...body, [field]: value })
        assert.deepEqual([error.status, error.code], [404, 'model_not_found'], `${path} ${field}`)
      }
    }
  })

  it('what is refused in a request is refused by /tokenize, and logged by it what is unknown', async () => {
    for (const body of [{ prompt: 'a' }, { messages: goodChat.messages }]) {
      const error = await refusal('/tokenize', { ...body, chat_template: 'x' })
      assert.deepEqual([error.code, error.param], ['unsupported_parameter', 'chat_template'])
      assert.equal((await front.post('/tokenize', { ...body, frobnicate: 1 })).status, 200)
      const line = front.log.findLast(({ message }) => message === 'request')
      assert.deepEqual(line?.fields.unknownFields, ['frobnicate'])
    }
  })

  it('a prompt over the context is named by its place, and the flag with it', async () => {
    const long = 'ab '.repeat(60_000)
    const many = Array(600).fill(1)
    const wrong = [
      [completions, { ...goodCompletion, prompt: long }, 'prompt'],
      [completions, { ...goodCompletion, prompt: ['a', long] }, 'prompt.1'],
      [completions, { ...goodCompletion, prompt: many }, 'prompt'],
      [completions, { ...goodCompletion, prompt: [[1], many] }, 'prompt.1'],
      [completions, { ...goodCompletion, max_tokens: 600 }, 'max_tokens'],
      [chat, { ...goodChat, messages: [{ role: 'user', content: long }] }, 'messages'],
      [chat, { ...goodChat, max_completion_tokens: 600 }, 'max_completion_tokens'],
      ['/tokenize', { prompt: long }, 'prompt'],
      ['/detokenize', { tokens: many }, 'tokens'],
    ] as const
    for (const [path, body, param] of wrong) {
      const error = await refusal(path, body)
      assert.deepEqual([error.status, error.param], [400, param])
      assert.match(error.message, /--max-context/)
    }
  })
})

describe('special tokens', () => {
  it('of a text prompt may be left away; a chat template brings its own', async () => {
    const { request } = await asked(completions, { ...goodCompletion, add_special_tokens: false })
    assert.deepEqual(request.prompt, { kind: 'text', text: 'Hi', addSpecialTokens: false })
    await asked(completions, { ...goodCompletion, add_special_tokens: true })
    await asked(chat, { ...goodChat, add_special_tokens: false })
    const error = await refusal(chat, { ...goodChat, add_special_tokens: true })
    assert.deepEqual([error.code, error.param], ['unsupported_parameter', 'add_special_tokens'])
    const tokenized = await refusal('/tokenize', {
      messages: goodChat.messages,
      add_special_tokens: true,
    })
    assert.equal(tokenized.param, 'add_special_tokens')
  })
})

describe('fields of a message', () => {
  const say = (fields: object) => ({
    ...goodChat,
    messages: [{ role: 'user', content: 'Hi', ...fields }],
  })

  it('refused ones are a 400 by name, unless they are empty', async () => {
    for (const [field, verdict] of Object.entries(messageFields)) {
      if (verdict.kind !== 'refused') continue
      for (const value of [['aGk='], { a: 1 }, 'x', 1]) {
        const { status, param, code, message } = await refusal(chat, say({ [field]: value }))
        assert.deepEqual([status, param, code], [400, `messages.0.${field}`, verdict.code])
        assert.ok(message.includes(verdict.remedy))
      }
      for (const value of [null, [], '']) await asked(chat, say({ [field]: value }))
    }
    const tokens = await refusal('/tokenize', { messages: say({ images: ['aGk='] }).messages })
    assert.deepEqual([tokens.status, tokens.param], [400, 'messages.0.images'])
  })

  it('harmless ones reach nothing, unknown ones are taken and logged', async () => {
    const { request: plain } = await asked(chat, say({}))
    const { request } = await asked(chat, say({ name: 'Bo', annotations: [{}], other: 1 }))
    assert.deepEqual(request.prompt, plain.prompt)
    const names = front.log.flatMap(({ fields }) => fields.unknownFields ?? [])
    assert.ok(names.includes('messages.*.other'), String(names))
    assert.ok(!names.includes('messages.*.name'))
  })

  it('a thought by any name counts where the reply continues the message', async () => {
    for (const field of ['reasoning_content', 'reasoning', 'thinking']) {
      const messages = [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: '', [field]: 'Let me', prefix: true },
      ]
      const { request } = await asked(chat, { ...goodChat, messages })
      assert.ok(request.prompt.kind === 'messages')
      assert.match(request.prompt.messages[1]!.content, /Let me/, field)
      const wrong = { role: 'assistant', content: 'x', [field]: 1 }
      const { param } = await refusal(chat, { ...goodChat, messages: [wrong] })
      assert.equal(param, `messages.0.${field}`)
    }
  })
})
