// POST /v1/responses: the official openai package against the front over a socket, the order of its events,
// and what of a chat holds there, too.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import OpenAI from 'openai'
import {
  accepted,
  createFakeEngine,
  delta,
  done,
  failed,
  fakeModel,
  finished,
  guardedModel,
  type Script,
} from './support/fake-engine.ts'
import { createFront, type Front, type FrontOptions, readJson } from './support/front.ts'
import {
  calling,
  callText,
  clientPatience,
  namedEvents,
  scripted,
  withServedFront,
} from './support/front-client.ts'

const path = '/v1/responses'
const good = { model: 'tiny', input: 'Hi' }

const withClient = (options: FrontOptions, test: (client: OpenAI, front: Front) => Promise<void>) =>
  withServedFront(options, connectOpenAi, test)

const connectOpenAi = (url: string) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0, timeout: clientPatience })

/** Text in these pieces, then its end. */
const saying = (pieces: readonly string[], end: Parameters<typeof finished>[1] = {}): Script =>
  async function* (request) {
    yield accepted(request)
    for (const piece of pieces) yield delta(0, 'content', piece)
    yield finished(0, end)
    yield done
  }

const tools = [
  {
    type: 'function' as const,
    name: 'add',
    description: 'Adds',
    strict: null,
    parameters: { type: 'object', properties: { a: { type: 'number' } } },
  },
]
const eventsOf = async (front: Front, body: object) =>
  namedEvents(await front.post(path, { ...body, stream: true }))

describe('the openai package on /v1/responses', () => {
  it('creates a response', () =>
    withClient({}, async (client, front) => {
      const response = await client.responses.create({
        ...good,
        instructions: 'Be brief',
        max_output_tokens: 9,
      })
      assert.equal(response.output_text, 'Hello there 🙂')
      assert.deepEqual([response.status, response.incomplete_details], ['completed', null])
      const [thought, message] = response.output
      assert.ok(thought?.type === 'reasoning' && message?.type === 'message')
      assert.equal(thought.content?.[0]?.text, 'Let me think.')
      assert.deepEqual(response.usage?.output_tokens_details, { reasoning_tokens: 2 })
      assert.deepEqual(
        [response.usage?.input_tokens, response.usage?.input_tokens_details.cached_tokens],
        [7, 2],
      )
      const { prompt, maxTokens } = front.engine.requests[0]!
      assert.ok(prompt.kind === 'messages')
      assert.deepEqual(prompt.messages, [
        { role: 'system', content: 'Be brief' },
        { role: 'user', content: 'Hi' },
      ])
      assert.equal(maxTokens, 9)
    }))

  it('streams one, to the same end', () =>
    withClient({ engine: scripted(saying(['Hel', 'lo'])) }, async (client) => {
      const stream = client.responses.stream(good)
      let text = ''
      stream.on('response.output_text.delta', (event) => {
        text += event.delta
      })
      const final = await stream.finalResponse()
      const whole = await client.responses.create(good)
      assert.deepEqual([text, final.output_text], ['Hello', 'Hello'])
      assert.deepEqual(final.usage, whole.usage)
      assert.equal(final.output.length, whole.output.length)
    }))

  it('calls tools, streamed as whole', () =>
    withClient({ engine: scripted(saying([...callText]), calling) }, async (client) => {
      const whole = await client.responses.create({ ...good, tools })
      const [message, call] = whole.output
      assert.ok(message?.type === 'message' && call?.type === 'function_call')
      assert.deepEqual([call.name, call.arguments], ['add', '{"a": 1}'])
      assert.equal(whole.output_text, 'Wait.')
      const stream = client.responses.stream({ ...good, tools })
      let streamed = ''
      stream.on('response.function_call_arguments.delta', (event) => {
        streamed += event.delta
      })
      const final = await stream.finalResponse()
      assert.equal(streamed, '{"a": 1}')
      assert.equal(final.output[1]?.type, 'function_call')
      const next = await client.responses.create({
        ...good,
        tools,
        input: [
          { role: 'user', content: 'Hi' },
          ...whole.output,
          { type: 'function_call_output', call_id: call.call_id, output: '2' },
        ] as OpenAI.Responses.ResponseInput,
      })
      assert.equal(next.status, 'completed')
    }))

  it('throws its errors', () =>
    withClient({}, async (client) => {
      const call = client.responses.create({ ...good, model: 'gpt-9' })
      const error = await call.then(
        () => assert.fail('expected an error'),
        (reason: unknown) => reason,
      )
      assert.ok(error instanceof OpenAI.NotFoundError)
      assert.equal(error.code, 'model_not_found')
    }))
})

describe('events of a response', () => {
  it('come in OpenAI’s order, numbered, and are what the whole answer is', async () => {
    const front = createFront()
    const events = await eventsOf(front, good)
    assert.deepEqual(
      events.map(({ type }) => type.replace('response.', '')),
      [
        ...['created', 'in_progress'],
        ...['output_item.added', 'content_part.added'],
        ...['reasoning_text.delta', 'reasoning_text.delta', 'reasoning_text.done'],
        ...['content_part.done', 'output_item.done'],
        ...['output_item.added', 'content_part.added'],
        ...['output_text.delta', 'output_text.delta', 'output_text.done'],
        ...['content_part.done', 'output_item.done'],
        'completed',
      ],
    )
    assert.deepEqual(
      events.map((event) => event.sequence_number),
      events.map((_, i) => i),
    )
    const last = events.at(-1).response
    const { output, usage } = last
    const items = events.filter(({ type }) => type === 'response.output_item.done')
    assert.deepEqual(
      items.map(({ item }) => item),
      output,
    )
    const whole = await readJson(await front.post(path, good))
    assert.deepEqual(usage, whole.usage)
    const shapes = (all: readonly object[]) => all.map((one) => ({ ...one, id: '' }))
    assert.deepEqual(shapes(output), shapes(whole.output))
    assert.deepEqual(Object.keys(last).sort(), Object.keys(whole).sort())
  })

  it('tell a thought as a summary to who asks for one', async () => {
    const front = createFront()
    const events = await eventsOf(front, { ...good, reasoning: { summary: 'auto' } })
    const types = new Set(events.map(({ type }) => type))
    assert.ok(types.has('response.reasoning_summary_part.added'))
    assert.ok(types.has('response.reasoning_summary_text.delta'))
    assert.ok(!types.has('response.reasoning_text.delta'))
    const [thought] = events.at(-1).response.output
    assert.deepEqual(thought.summary, [{ type: 'summary_text', text: 'Let me think.' }])
  })

  it('end in response.incomplete with the reason', async () => {
    for (const [reason, why] of [
      ['length', 'max_output_tokens'],
      ['content_filter', 'content_filter'],
    ] as const) {
      const front = createFront({ engine: scripted(saying(['He'], { reason })) })
      const { type, response } = (await eventsOf(front, good)).at(-1)
      assert.equal(type, 'response.incomplete')
      assert.deepEqual(response.incomplete_details, { reason: why })
      assert.equal(response.output[0].status, 'incomplete')
      const whole = await readJson(await front.post(path, good))
      assert.deepEqual([whole.status, whole.incomplete_details], ['incomplete', { reason: why }])
    }
  })

  it('end in response.failed after the head, in an error before it', async () => {
    const front = createFront({
      engine: scripted(async function* (request) {
        yield accepted(request)
        yield delta(0, 'content', 'He')
        yield failed('engine_crashed', 'it broke')
      }),
    })
    const { type, response } = (await eventsOf(front, good)).at(-1)
    assert.equal(type, 'response.failed')
    assert.deepEqual(
      [response.status, response.error],
      ['failed', { code: 'engine_crashed', message: 'it broke' }],
    )
    const early = createFront({
      engine: scripted(async function* () {
        yield failed('engine_crashed', 'it broke')
      }),
    })
    const refused = await early.post(path, { ...good, stream: true })
    assert.equal(refused.status, 500)
    assert.equal((await readJson(refused)).error.code, 'engine_crashed')
  })

  it('have log-probabilities where they are included', async () => {
    const front = createFront()
    const asked = { ...good, include: ['message.output_text.logprobs'], top_logprobs: 2 }
    const events = await eventsOf(front, asked)
    const deltas = events.filter(({ type }) => type === 'response.output_text.delta')
    assert.equal(deltas[0].logprobs[0].top_logprobs.length, 2)
    const { content } = events.at(-1).response.output.at(-1)
    assert.equal(content[0].logprobs.length, 2)
    const silent = await readJson(await front.post(path, good))
    assert.deepEqual(silent.output.at(-1).content[0].logprobs, [])
  })
})

describe('what a response is asked', () => {
  const promptOf = async (body: object, model = fakeModel) => {
    const front = createFront({ engine: scripted(saying(['ok']), model) })
    const response = await front.post(path, { ...good, ...body })
    assert.equal(response.status, 200, await response.clone().text())
    const { prompt, ...request } = front.engine.requests.at(-1)!
    assert.ok(prompt.kind === 'messages')
    return { ...request, prompt, response, body: await readJson(response) }
  }

  it('items are a chat: one turn of the model is one message', async () => {
    const { prompt } = await promptOf(
      {
        tools,
        input: [
          { type: 'message', role: 'developer', content: [{ type: 'input_text', text: 'Be' }] },
          { role: 'user', content: 'Hi' },
          {
            type: 'reasoning',
            id: 'rs_1',
            summary: [],
            content: [{ type: 'reasoning_text', text: 'hm' }],
          },
          { role: 'assistant', content: [{ type: 'output_text', text: 'Wait.' }] },
          { type: 'function_call', call_id: 'c1', name: 'add', arguments: '{"a":1}' },
          { type: 'function_call', call_id: 'c2', name: 'add', arguments: '' },
          {
            type: 'function_call_output',
            call_id: 'c2',
            output: [{ type: 'input_text', text: '2' }],
          },
          { type: 'function_call_output', call_id: 'c1', output: '1' },
        ],
      },
      calling,
    )
    const calls = [
      { id: 'c1', name: 'add', arguments: '{"a":1}' },
      { id: 'c2', name: 'add', arguments: '{}' },
    ] as const
    assert.deepEqual(prompt.messages, [
      { role: 'system', content: 'Be' },
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Wait.', toolCalls: calls },
      { role: 'tool', content: '2', answers: calls[1] },
      { role: 'tool', content: '1', answers: calls[0] },
    ])
    assert.equal(prompt.tools?.[0]?.name, 'add')
  })

  it('chooses adapters in every way a chat does, and attests them', async () => {
    const digest = Buffer.from('terse'.padEnd(32, '.')).toString('hex').slice(0, 12)
    const front = createFront()
    for (const [query, fields] of [
      ['?adapter=terse', {}],
      ['', { model: 'terse' }],
      ['', { adapter: 'terse' }],
      ['', { lora: [{ id: 'terse' }] }],
    ] as const) {
      const response = await front.post(`${path}${query}`, { ...good, ...fields })
      assert.equal(response.headers.get('x-adapter'), `terse@${digest};scale=0.5`)
      const { adapter } = await readJson(response)
      assert.deepEqual(adapter, [{ id: 'terse', digest, scale: 0.5 }])
    }
  })

  it('tells scores in header and body, streamed as whole', async () => {
    const engine = createFakeEngine()
    engine.model = guardedModel
    const front = createFront({ engine })
    const response = await front.post(path, good)
    assert.match(response.headers.get('x-safety')!, /^observe; guard=watch@/)
    const { safety } = await readJson(response)
    assert.deepEqual([safety.input.score, safety.output.score], [0.1, 0.2])
    const events = await eventsOf(front, good)
    assert.deepEqual(events.at(-1).response.safety, safety)
    const moderated = { ...good, moderation: { model: 'omni-moderation-latest' } }
    assert.equal(
      (await readJson(await front.post(path, moderated))).moderation.output.type,
      'moderation_results',
    )
  })

  it('is not kept: store is answered with false, and said so', async () => {
    const { body, response } = await promptOf({ store: true })
    assert.equal(body.store, false)
    assert.equal(response.headers.get('x-dutyfree-ignored'), 'store')
    assert.equal(
      (await promptOf({ store: false })).response.headers.get('x-dutyfree-ignored'),
      null,
    )
  })

  it('switches thinking off by its effort', async () => {
    const { prompt } = await promptOf({ reasoning: { effort: 'none' } })
    assert.equal(prompt.thinking, false)
    assert.equal((await promptOf({ reasoning: { enabled: false } })).prompt.thinking, false)
    await promptOf({ reasoning: { effort: 'high', summary: null, generate_summary: 'auto' } })
  })

  it('names the tools of a server that it does without', async () => {
    const given = [...tools, { type: 'web_search' }]
    const { response, prompt } = await promptOf({ tools: given }, calling)
    assert.equal(response.headers.get('x-dutyfree-ignored'), 'tools.1')
    assert.equal(prompt.tools?.length, 1)
    const without = await promptOf({ tools: given })
    assert.equal(without.response.headers.get('x-dutyfree-ignored'), 'tools')
  })

  it('names what is included in vain, and a strict tool that the model calls as it likes', async () => {
    const { response } = await promptOf({ include: ['message.output_text.logprobs'] })
    assert.equal(response.headers.get('x-dutyfree-ignored'), null)
    const other = await promptOf({ include: ['file_search_call.results'] })
    assert.equal(other.response.headers.get('x-dutyfree-ignored'), 'include')
    const strict = { tools: [{ ...tools[0], strict: true }] }
    const free = await promptOf(strict, calling)
    assert.equal(free.response.headers.get('x-dutyfree-ignored'), 'tools.0.strict')
    const held = await promptOf({ ...strict, tool_choice: 'required' }, calling)
    assert.equal(held.response.headers.get('x-dutyfree-ignored'), null)
  })

  it('is named as the client spells it in an error of the engine, too', async () => {
    for (const [param, spelled] of [
      ['response_format', 'text.format'],
      ['messages.0', 'input'],
    ] as const) {
      const engine = scripted(async function* () {
        yield { kind: 'failed', error: { code: 'invalid_value', message: 'it cannot be', param } }
      })
      const response = await createFront({ engine }).post(path, good)
      assert.equal(response.status, 400)
      assert.equal((await readJson(response)).error.param, spelled)
    }
  })

  const wrong: readonly (readonly [object, string, string?])[] = [
    [{ input: undefined }, 'input'],
    [{ input: [] }, 'input'],
    [{ input: 5 }, 'input'],
    [{ input: ['x'] }, 'input.0'],
    [{ input: [{ role: 'robot', content: 'x' }] }, 'input.0.role'],
    [{ instructions: 'a', input: [{ role: 'robot', content: 'x' }] }, 'input.0.role'],
    [
      { input: [{ role: 'user', content: [{ type: 'input_image' }] }] },
      'input.0.content.0.type',
      'unsupported_content',
    ],
    [{ input: [{ type: 'item_reference', id: 'rs_1' }] }, 'input.0.type', 'unsupported_value'],
    [{ input: [{ type: 'web_search_call' }] }, 'input.0.type', 'unsupported_content'],
    [{ input: [{ type: 'function_call', name: 'add' }] }, 'input.0.call_id'],
    [{ input: [{ type: 'function_call_output', call_id: 'c', output: 'x' }] }, 'input.0.call_id'],
    [
      { input: [{ type: 'function_call', call_id: 'c', name: 'add', arguments: '[]' }] },
      'input.0.arguments',
    ],
    [{ input: [{ type: 'reasoning', summary: [] }] }, 'input'],
    [{ previous_response_id: 'resp_1' }, 'previous_response_id', 'unsupported_parameter'],
    [{ conversation: 'conv_1' }, 'conversation', 'unsupported_parameter'],
    [{ background: true }, 'background', 'unsupported_parameter'],
    [{ truncation: 'auto' }, 'truncation', 'unsupported_parameter'],
    [{ prompt: { id: 'pmpt_1' } }, 'prompt', 'unsupported_parameter'],
    [{ messages: [] }, 'messages', 'unsupported_parameter'],
    [{ n: 2 }, 'n', 'unsupported_parameter'],
    [{ max_output_tokens: 0 }, 'max_output_tokens'],
    [{ max_output_tokens: 1e9 }, 'max_output_tokens'],
    [{ store: 'yes' }, 'store'],
    [{ reasoning: { effort: 'lots' } }, 'reasoning.effort'],
    [{ reasoning: { max_tokens: 9 } }, 'reasoning.max_tokens', 'unsupported_parameter'],
    [{ reasoning: { effort: 'none' }, enable_thinking: true }, 'reasoning.effort'],
    [{ text: { style: 'x' } }, 'text.style', 'unsupported_parameter'],
    [{ text: { format: { type: 'text', schema: {} } } }, 'text.format'],
    [{ text: { format: { type: 'json_schema', name: 'x' } } }, 'text.format.schema'],
    [{ text: { verbosity: 'low' } }, 'text.verbosity', 'unsupported_parameter'],
    [{ temperature: 3 }, 'temperature'],
    [{ tools: [{ type: 'function' }] }, 'tools.0.name'],
    [{ tools: [{ ...tools[0], parameters: [] }] }, 'tools.0.parameters'],
    [{ tools: [{ ...tools[0], strict: 'yes' }] }, 'tools.0.strict'],
    [{ tools, tool_choice: { type: 'function', name: 'sub' } }, 'tool_choice.name'],
    [{ tools: 'add' }, 'tools'],
  ]
  for (const [fields, param, code = 'invalid_value'] of wrong) {
    it(`refuses ${JSON.stringify(fields)} by name`, async () => {
      const response = await createFront().post(path, { ...good, ...fields })
      const { error } = await readJson(response)
      assert.deepEqual(
        [response.status, error.code, error.param],
        [400, code, param],
        error.message,
      )
    })
  }
})
