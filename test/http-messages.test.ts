// POST /v1/messages: Anthropic's own package against the front over a socket, the order of its events, and
// what of a chat holds there, too.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import {
  accepted,
  createFakeEngine,
  delta,
  done,
  failed,
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

const path = '/v1/messages'
const messages = [{ role: 'user' as const, content: 'Hi' }]
const good = { model: 'tiny', max_tokens: 64, messages }
const thinking = { type: 'enabled' as const, budget_tokens: 1024 }

const withClient = (
  options: FrontOptions,
  test: (client: Anthropic, front: Front) => Promise<void>,
  apiKey = 'unused',
) =>
  withServedFront(
    options,
    (baseURL) => new Anthropic({ baseURL, apiKey, maxRetries: 0, timeout: clientPatience }),
    test,
  )

const saying = (pieces: readonly string[], end: Parameters<typeof finished>[1] = {}): Script =>
  async function* (request) {
    yield accepted(request)
    yield delta(0, 'reasoning', 'Hm.')
    for (const piece of pieces) yield delta(0, 'content', piece)
    yield finished(0, end)
    yield done
  }

const tools = [
  {
    name: 'add',
    description: 'Adds',
    input_schema: { type: 'object' as const, properties: { a: { type: 'number' } } },
  },
]
const eventsOf = async (front: Front, body: object) =>
  namedEvents(await front.post(path, { ...good, ...body, stream: true }))

describe('Anthropic’s package on /v1/messages', () => {
  it('creates a message; thoughts only where they are asked for', () =>
    withClient({}, async (client, front) => {
      const message = await client.messages.create({
        ...good,
        system: [{ type: 'text', text: 'Be brief' }],
        stop_sequences: ['x'],
      })
      assert.deepEqual(message.content, [{ type: 'text', text: 'Hello there 🙂' }])
      assert.deepEqual([message.stop_reason, message.stop_sequence], ['end_turn', null])
      const { input_tokens, cache_read_input_tokens, output_tokens } = message.usage
      assert.deepEqual([input_tokens, cache_read_input_tokens, output_tokens], [5, 2, 4])
      const { prompt, sampling, maxTokens } = front.engine.requests[0]!
      assert.ok(prompt.kind === 'messages')
      assert.deepEqual(prompt.messages, [
        { role: 'system', content: 'Be brief' },
        { role: 'user', content: 'Hi' },
      ])
      assert.deepEqual([sampling.stop, maxTokens], [['x'], 64])
      const thought = await client.messages.create({ ...good, thinking })
      assert.deepEqual(thought.content[0], {
        type: 'thinking',
        thinking: 'Let me think.',
        signature: '',
      })
    }))

  it('streams one, to the same end', () =>
    withClient({ engine: scripted(saying(['Hel', 'lo'])) }, async (client) => {
      const final = await client.messages.stream({ ...good, thinking }).finalMessage()
      const whole = await client.messages.create({ ...good, thinking })
      assert.deepEqual(final.content, whole.content)
      assert.deepEqual(final.stop_reason, whole.stop_reason)
      assert.equal(final.usage.output_tokens, whole.usage.output_tokens)
      assert.equal(final.usage.input_tokens, whole.usage.input_tokens)
    }))

  it('calls tools, streamed as whole, and takes their results', () =>
    withClient({ engine: scripted(saying([...callText]), calling) }, async (client, front) => {
      const whole = await client.messages.create({ ...good, tools })
      const [text, call] = whole.content
      assert.ok(text?.type === 'text' && call?.type === 'tool_use')
      assert.deepEqual([text.text, call.name, call.input], ['Wait.', 'add', { a: 1 }])
      assert.equal(whole.stop_reason, 'tool_use')
      const final = await client.messages.stream({ ...good, tools }).finalMessage()
      assert.deepEqual((final.content[1] as { input: unknown }).input, call.input)
      const result = { type: 'tool_result' as const, tool_use_id: call.id, content: '2' }
      await client.messages.create({
        ...good,
        tools,
        messages: [
          ...messages,
          { role: 'assistant', content: whole.content },
          { role: 'user', content: [result, { type: 'text', text: 'And?' }] },
        ],
      })
      const { prompt } = front.engine.requests.at(-1)!
      assert.ok(prompt.kind === 'messages')
      const called = { id: call.id, name: 'add', arguments: '{"a":1}' }
      assert.deepEqual(prompt.messages.slice(1), [
        { role: 'assistant', content: 'Wait.', toolCalls: [called] },
        { role: 'tool', content: '2', answers: called },
        { role: 'user', content: 'And?' },
      ])
    }))

  it('counts tokens', () =>
    withClient({}, async (client, front) => {
      const { input_tokens } = await client.messages.countTokens({ model: 'tiny', messages })
      assert.equal(input_tokens, 2)
      assert.equal(front.engine.requests.length, 0)
    }))

  it('sends its key in a header of its own, and throws its errors', async () => {
    const config = { apiKey: ['secret-key-1'] } as const
    await withClient(
      { config },
      async (client) => void (await client.messages.create(good)),
      'secret-key-1',
    )
    await withClient({ config }, async (client) => {
      const error = await client.messages.create(good).then(
        () => assert.fail('expected an error'),
        (reason: unknown) => reason,
      )
      assert.ok(error instanceof Anthropic.AuthenticationError, String(error))
      const { type } = (error.error as { error: { type: string } }).error
      assert.equal(type, 'authentication_error')
    })
  })
})

describe('events of a message', () => {
  it('come in Anthropic’s order, and are what the whole answer is', async () => {
    const front = createFront()
    const events = await eventsOf(front, { thinking })
    assert.deepEqual(
      events.map(({ type, index }) => (index === undefined ? type : `${type} ${index}`)),
      [
        ...['message_start', 'ping', 'content_block_start 0'],
        ...['content_block_delta 0', 'content_block_delta 0', 'content_block_stop 0'],
        'content_block_start 1',
        ...['content_block_delta 1', 'content_block_delta 1', 'content_block_stop 1'],
        ...['message_delta', 'message_stop'],
      ],
    )
    const whole = await readJson(await front.post(path, { ...good, thinking }))
    const last = events.at(-2)
    assert.deepEqual(last.usage, whole.usage)
    assert.equal(last.delta.stop_reason, whole.stop_reason)
  })

  it('tell why it ended', async () => {
    const ends = [
      [{ reason: 'length' }, 'max_tokens', null],
      [{ reason: 'content_filter' }, 'refusal', null],
      [{ reason: 'stop', stopReason: 'END' }, 'stop_sequence', 'END'],
      [{ reason: 'stop', stopReason: 7 }, 'end_turn', null],
    ] as const
    for (const [end, reason, sequence] of ends) {
      const front = createFront({ engine: scripted(saying(['He'], end)) })
      const told = (await eventsOf(front, {})).at(-2).delta
      assert.deepEqual(told, { stop_reason: reason, stop_sequence: sequence })
      const whole = await readJson(await front.post(path, good))
      assert.deepEqual([whole.stop_reason, whole.stop_sequence], [reason, sequence])
    }
  })

  it('end in an error after the head', async () => {
    const front = createFront({
      engine: scripted(async function* (request) {
        yield accepted(request)
        yield failed('engine_crashed', 'it broke')
      }),
    })
    const last = (await eventsOf(front, {})).at(-1)
    assert.deepEqual(
      [last.type, last.error.type, last.error.message],
      ['error', 'api_error', 'it broke'],
    )
  })
})

describe('what a message is asked', () => {
  it('chooses adapters in every way a chat does, attests them, and tells scores', async () => {
    const digest = Buffer.from('terse'.padEnd(32, '.')).toString('hex').slice(0, 12)
    const engine = createFakeEngine()
    engine.model = guardedModel
    const front = createFront({ engine })
    for (const [query, fields] of [
      ['?adapter=terse', {}],
      ['', { model: 'terse' }],
      ['', { adapter: 'terse' }],
    ] as const) {
      const response = await front.post(`${path}${query}`, { ...good, ...fields })
      assert.equal(response.headers.get('x-adapter'), `terse@${digest};scale=0.5`)
      const { adapter, safety } = await readJson(response)
      assert.deepEqual(adapter, [{ id: 'terse', digest, scale: 0.5 }])
      assert.deepEqual([safety.input.score, safety.output.score], [0.1, 0.2])
    }
    const events = await eventsOf(front, { adapter: 'terse' })
    assert.equal(events[0].message.adapter[0].id, 'terse')
    assert.equal(events.at(-2).safety.output.score, 0.2)
  })

  it('a last message of the assistant is continued', async () => {
    const front = createFront()
    const begun = { role: 'assistant', content: [{ type: 'text', text: 'It is' }] }
    assert.equal((await front.post(path, { ...good, messages: [...messages, begun] })).status, 200)
    const { prompt } = front.engine.requests.at(-1)!
    assert.ok(prompt.kind === 'messages' && prompt.continuesLast)
  })

  it('a budget of thinking is said to be unused; thinking is switched off', async () => {
    const front = createFront()
    const response = await front.post(path, { ...good, thinking })
    assert.equal(response.headers.get('x-dutyfree-ignored'), 'thinking.budget_tokens')
    await front.post(path, { ...good, thinking: { type: 'disabled' } })
    const { prompt } = front.engine.requests.at(-1)!
    assert.ok(prompt.kind === 'messages' && prompt.thinking === false)
  })

  const image = { type: 'image', source: { type: 'url', url: 'http://169.254.169.254/' } }
  const jsonSchema = { type: 'json_schema', schema: { type: 'object' } }
  const say = (content: unknown, role = 'user') => ({ messages: [{ role, content }] })
  const wrong: readonly (readonly [object, string, string?])[] = [
    [{ messages: undefined }, 'messages'],
    [{ messages: [] }, 'messages'],
    [{ messages: ['x'] }, 'messages.0'],
    [say('x', 'system'), 'messages.0.role'],
    [say(5), 'messages.0.content'],
    [say([image]), 'messages.0.content.0.type', 'unsupported_content'],
    [say([{ type: 'text' }]), 'messages.0.content.0.text'],
    [say([{ type: 'text', text: 'a' }, { type: 'text' }]), 'messages.0.content.1.text'],
    [say([{ type: 'thinking', thinking: 'x' }]), 'messages.0.content.0.type'],
    [say([{ type: 'tool_use', id: 'a', name: 'f', input: {} }]), 'messages.0.content.0.type'],
    [say([{ type: 'tool_result', tool_use_id: 'a' }]), 'messages.0.content.0.tool_use_id'],
    [{ system: 5 }, 'system'],
    [{ system: [image] }, 'system.0.type', 'unsupported_content'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ stop_sequences: [''] }, 'stop_sequences.0'],
    [{ thinking: { type: 'maybe' } }, 'thinking.type'],
    [{ thinking: { ...thinking, depth: 2 } }, 'thinking.depth', 'unsupported_parameter'],
    [{ output_config: { style: 'x' } }, 'output_config.style', 'unsupported_parameter'],
    [{ tool_choice: { type: 'auto', of: 'f' } }, 'tool_choice.of', 'unsupported_parameter'],
    [
      { output_config: { format: { type: 'json_schema', schema: {}, name: 'x' } } },
      'output_config.format.name',
      'unsupported_parameter',
    ],
    [{ tool_choice: { type: 'some' } }, 'tool_choice.type'],
    [{ tools: [{ name: 'a b', input_schema: {} }] }, 'tools.0.name'],
    [{ tools: [{ name: 'a', input_schema: [] }] }, 'tools.0.input_schema'],
    [{ tools: [{ name: 'a' }], tool_choice: { type: 'tool', name: 'b' } }, 'tool_choice.name'],
    [{ output_config: { format: { type: 'json_schema' } } }, 'output_config.format.schema'],
    [{ output_format: jsonSchema, output_config: { format: jsonSchema } }, 'output_format'],
    [{ mcp_servers: [{ type: 'url' }] }, 'mcp_servers', 'unsupported_parameter'],
    [{ container: 'c' }, 'container', 'unsupported_parameter'],
    [{ n: 2 }, 'n', 'unsupported_parameter'],
  ]
  for (const [fields, param, code = 'invalid_value'] of wrong) {
    it(`refuses ${JSON.stringify(fields)} by name`, async () => {
      const response = await createFront().post(path, { ...good, ...fields })
      const body = await readJson(response)
      assert.equal(body.type, 'error')
      assert.match(body.request_id, /^req-/)
      const { error } = body
      assert.deepEqual(
        [response.status, error.type, error.code, error.param],
        [400, 'invalid_request_error', code, param],
        error.message,
      )
      const counted = await createFront().post(`${path}/count_tokens`, { ...good, ...fields })
      assert.equal(counted.status, 400)
    })
  }
})
