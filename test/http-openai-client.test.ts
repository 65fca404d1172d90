// The official openai package against the front over a socket: what it parses and what it throws.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import OpenAI from 'openai'
import { accepted, createFakeEngine, delta, failed, type Script } from './support/fake-engine.ts'
import type { Front, FrontOptions } from './support/front.ts'
import { clientPatience, withServedFront } from './support/front-client.ts'

const messages = [{ role: 'user' as const, content: 'Hi' }]

const withClient = (
  options: FrontOptions & { script?: Script; apiKey?: string },
  test: (client: OpenAI, front: Front) => Promise<void>,
) => {
  const engine = createFakeEngine(options.script ? { script: options.script } : {})
  const { apiKey = 'unused' } = options
  const connect = (url: string) =>
    new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, timeout: clientPatience })
  return withServedFront({ engine, ...options }, connect, test)
}

/** The APIError a call is rejected with. */
const errorOf = async (call: Promise<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> => {
  const error = await call.then(
    () => assert.fail('expected an error'),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof OpenAI.APIError, String(error))
  return error
}

describe('the openai package', () => {
  it('chats', () =>
    withClient({}, async (client) => {
      const answer = await client.chat.completions.create({ model: 'tiny', messages, n: 2 })
      assert.equal(answer.choices.length, 2)
      assert.equal(answer.choices[1]?.message.content, 'Hello there 🙂')
      assert.equal(answer.usage?.completion_tokens_details?.reasoning_tokens, 4)
      assert.match(answer._request_id ?? '', /^req-/)
    }))

  it('streams, with usage', () =>
    withClient({}, async (client) => {
      const stream = await client.chat.completions.create({
        model: 'tiny',
        messages,
        stream: true,
        stream_options: { include_usage: true },
      })
      let text = ''
      let total = 0
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta.content ?? ''
        total += chunk.usage?.total_tokens ?? 0
      }
      assert.equal(text, 'Hello there 🙂')
      assert.equal(total, 11)
    }))

  it('its stream helper accepts our chunks', () =>
    withClient({}, async (client) => {
      const runner = client.chat.completions.stream({ model: 'tiny', messages, logprobs: true })
      const final = await runner.finalChatCompletion()
      assert.equal(final.choices[0]?.message.content, 'Hello there 🙂')
      assert.equal(final.choices[0]?.finish_reason, 'stop')
    }))

  it('completes, lists models, sends adapters as extra fields and as query', () =>
    withClient({}, async (client, front) => {
      const answer = await client.completions.create({ model: 'safety-r1', prompt: ['a', 'b'] })
      assert.deepEqual(
        answer.choices.map(({ text }) => text),
        ['Hello there 🙂', 'Hello there 🙂'],
      )
      const ids: string[] = []
      for await (const model of client.models.list()) ids.push(model.id)
      assert.deepEqual(ids, ['tiny', 'safety-r1', 'terse'])
      assert.equal((await client.models.retrieve('terse')).id, 'terse')
      const body = { model: 'tiny', messages, adapter: 'terse' }
      await client.chat.completions.create(body)
      await client.chat.completions.create(
        { model: 'tiny', messages },
        { query: { adapter: 'terse:2' } },
      )
      assert.deepEqual(
        front.engine.requests.map(({ adapters }) => adapters[0]),
        [
          { id: 'safety-r1', scale: null },
          { id: 'safety-r1', scale: null },
          { id: 'terse', scale: null },
          { id: 'terse', scale: 2 },
        ],
      )
    }))

  it('throws its own error classes with code, param, type and request id', () =>
    withClient({}, async (client) => {
      const create = client.chat.completions.create.bind(client.chat.completions)
      const bad = await errorOf(create({ model: 'tiny', messages, temperature: 9 }))
      assert.ok(bad instanceof OpenAI.BadRequestError)
      assert.equal(bad.code, 'invalid_value')
      assert.equal(bad.param, 'temperature')
      assert.equal(bad.type, 'invalid_request_error')
      assert.match(bad.requestID ?? '', /^req-/)
      const missing = await errorOf(create({ model: 'gpt-4o', messages }))
      assert.ok(missing instanceof OpenAI.NotFoundError)
      assert.equal(missing.code, 'model_not_found')
    }))

  it('throws AuthenticationError on a wrong key and works with the right one', async () => {
    const config = { apiKey: ['right'] }
    await withClient({ config, apiKey: 'wrong' }, async (client) => {
      assert.ok((await errorOf(client.models.list())) instanceof OpenAI.AuthenticationError)
    })
    await withClient({ config, apiKey: 'right' }, async (client) => {
      assert.equal((await client.models.list()).data.length, 3)
    })
  })

  it('throws on an error event in a stream', () => {
    const script: Script = async function* (request) {
      yield accepted(request)
      yield delta(0, 'content', 'Hel')
      yield failed('engine_crashed', 'the engine stopped')
    }
    return withClient({ script }, async (client) => {
      const stream = await client.chat.completions.create({ model: 'tiny', messages, stream: true })
      const error = await errorOf(
        (async () => {
          for await (const _ of stream);
        })(),
      )
      assert.equal(error.code, 'engine_crashed')
    })
  })
})
