// Tools of a chat: what the engine is asked, what the official openai package reads of calls, and a call that
// must come on the real server.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { within } from './support/deadline.ts'
import {
  accepted,
  createFakeEngine,
  delta,
  done,
  fakeModel,
  finished,
  type Script,
} from './support/fake-engine.ts'
import { createFront, goodChat, listen, parseEvents, readJson } from './support/front.ts'
import { startServer } from './support/real-server.ts'
import { createTempFolder } from './support/temp-folder.ts'

const patience = 60_000
const chat = '/v1/chat/completions'
const parameters = {
  type: 'object',
  properties: { a: { type: 'integer' }, unit: { enum: ['cm', 'm'] } },
  required: ['a', 'unit'],
  additionalProperties: false,
}
const tool = (name: string) => ({
  type: 'function' as const,
  function: { name, description: `It is ${name}`, parameters },
})
const tools = [tool('add'), tool('measure')]
const call = (name: string, args: string) =>
  `<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`

const saying = (text: string, size: number): Script =>
  async function* (request) {
    yield accepted(request)
    for (let index = 0; index < request.n; index++) {
      for (let at = 0; at < text.length; at += size) {
        yield delta(index, 'content', text.slice(at, at + size), request.topLogprobs)
      }
      yield finished(index)
    }
    yield done
  }

function frontOf(text: string, size = text.length) {
  const engine = createFakeEngine({ script: saying(text, size) })
  engine.model = { ...fakeModel, toolFormat: 'hermes' }
  return createFront({ engine })
}

describe('calls in a chat', () => {
  const text = `Let me see.\n${call('add', '{"a": 1}')}\n${call('measure', '{"unit": "m"}')}`

  it('are what the openai package reads, streamed as whole, whatever the pieces are', async () => {
    for (const size of [1, 3, 7, text.length]) {
      const server = await listen(frontOf(text, size))
      const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'x', maxRetries: 0 })
      const asked = { model: 'tiny', messages: [{ role: 'user' as const, content: 'Hi' }], tools }
      try {
        const whole = await client.chat.completions.create(asked)
        const [choice] = whole.choices
        assert.equal(choice!.finish_reason, 'tool_calls')
        assert.equal(choice!.message.content, 'Let me see.')
        const shapes = choice!.message.tool_calls!.map((one) => {
          assert.ok(one.type === 'function')
          return [one.function.name, one.function.arguments]
        })
        assert.deepEqual(shapes, [
          ['add', '{"a": 1}'],
          ['measure', '{"unit": "m"}'],
        ])
        const final = await client.chat.completions.stream(asked).finalChatCompletion()
        const streamed = final.choices[0]!.message.tool_calls!.map((one) => {
          assert.ok(one.type === 'function')
          return [one.function.name, one.function.arguments]
        })
        assert.deepEqual(streamed, shapes)
        assert.equal(final.choices[0]!.finish_reason, 'tool_calls')
        assert.equal(final.choices[0]!.message.content, 'Let me see.')
      } finally {
        await server.close()
      }
    }
  })

  it('without text have none; each choice has calls and ids of its own', async () => {
    const front = frontOf(call('add', '{}'))
    const { choices } = await readJson(await front.post(chat, { ...goodChat, tools, n: 2 }))
    assert.deepEqual(
      choices.map((one: { message: { content: null } }) => one.message.content),
      [null, null],
    )
    const ids = choices.flatMap((one: { message: { tool_calls: { id: string }[] } }) =>
      one.message.tool_calls.map(({ id }) => id),
    )
    assert.equal(new Set(ids).size, 2)
  })

  it('are one where no two may come', async () => {
    const front = frontOf(text)
    const asked = { ...goodChat, tools, parallel_tool_calls: false }
    const { choices } = await readJson(await front.post(chat, asked))
    assert.equal(choices[0].message.tool_calls.length, 1)
  })

  it('log-probabilities are told of all tokens, of those of calls too', async () => {
    const front = frontOf(text, 5)
    const asked = { ...goodChat, tools, logprobs: true }
    const whole = await readJson(await front.post(chat, asked))
    const count = Math.ceil(text.length / 5)
    assert.equal(whole.choices[0].logprobs.content.length, count)
    const streamed = await (await front.post(chat, { ...asked, stream: true })).text()
    // biome-ignore lint/suspicious/noExplicitAny: a test asserts on whatever came
    const chunks = parseEvents(streamed).slice(0, -1) as any[]
    const told = chunks.flatMap(({ choices }) => choices[0]?.logprobs?.content ?? [])
    assert.equal(told.length, count)
  })

  it('that are text are text: without tools nothing is read', async () => {
    const { choices } = await readJson(await frontOf(text).post(chat, goodChat))
    assert.equal(choices[0].message.content, text)
    assert.ok(!('tool_calls' in choices[0].message))
  })
})

describe('what the engine is asked', () => {
  async function asked(fields: object, toolFormat: 'hermes' | 'llama3' | 'deepseek' | null) {
    const engine = createFakeEngine()
    engine.model = { ...fakeModel, toolFormat }
    const front = createFront({ engine })
    const response = await front.post(chat, { ...goodChat, tools, ...fields })
    assert.equal(response.status, 200, await response.clone().text())
    const { prompt, ...request } = engine.requests[0]!
    assert.ok(prompt.kind === 'messages')
    const ignored = response.headers.get('x-dutyfree-ignored')
    return { ...request, shown: prompt.tools?.map(({ name }) => name), ignored }
  }

  it('auto shows the tools to a model that knows tools, and to no other', async () => {
    const { shown, constraint, sampling, ignored } = await asked({}, 'hermes')
    assert.deepEqual([shown, constraint, ignored], [['add', 'measure'], null, null])
    assert.equal(sampling.skipSpecialTokens, false)
    const other = await asked({}, null)
    assert.deepEqual([other.shown, other.ignored], [undefined, 'tools'])
    const none = await asked({ tool_choice: 'none' }, 'hermes')
    assert.deepEqual([none.shown, none.ignored], [undefined, 'tools'])
  })

  it('a form of the answer leaves no room for calls, and says so', async () => {
    const fields = { response_format: { type: 'json_object' } }
    const { shown, constraint, ignored } = await asked(fields, 'hermes')
    assert.deepEqual([shown, constraint?.kind, ignored], [undefined, 'json_object', 'tools'])
  })

  it('required and named calls are a grammar, on any model', async () => {
    const required = await asked({ tool_choice: 'required' }, 'hermes')
    assert.ok(required.constraint?.kind === 'tool_calls')
    const { begin, maxCalls, tools: offered } = required.constraint
    assert.deepEqual([begin, maxCalls, offered.length], ['<tool_call>\n', null, 2])
    assert.deepEqual(JSON.parse(offered[0]!.parameters), parameters)
    const named = { tool_choice: { type: 'function', function: { name: 'measure' } } }
    for (const format of ['llama3', 'deepseek', null] as const) {
      const { constraint, shown } = await asked(named, format)
      assert.ok(constraint?.kind === 'tool_calls')
      assert.deepEqual([constraint.begin, constraint.maxCalls], ['', 1])
      assert.deepEqual(
        constraint.tools.map(({ name }) => name),
        ['measure'],
      )
      assert.deepEqual(shown, format === null ? undefined : ['measure'])
    }
    const single = await asked({ tool_choice: 'required', parallel_tool_calls: false }, 'hermes')
    assert.ok(single.constraint?.kind === 'tool_calls' && single.constraint.maxCalls === 1)
  })

  it('a strict tool is one where its call is asked for; else it is said not to be', async () => {
    const strict = tools.map((one) => ({ ...one, function: { ...one.function, strict: true } }))
    const free = await asked({ tools: strict }, 'hermes')
    assert.equal(free.ignored, 'tools.0.function.strict, tools.1.function.strict')
    assert.equal((await asked({ tools: strict, tool_choice: 'required' }, 'hermes')).ignored, null)
  })

  it('allowed tools are some of them', async () => {
    const allowed = { mode: 'auto', tools: [{ type: 'function', function: { name: 'add' } }] }
    const choice = { type: 'allowed_tools', allowed_tools: allowed }
    assert.deepEqual((await asked({ tool_choice: choice }, 'hermes')).shown, ['add'])
  })
})

it('on the real server a call that must come is one of its tool’s schema, on every route', async () => {
  const temp = createTempFolder()
  const folders = ['--adapters', join(temp, 'adapters'), '--cache-dir', join(temp, 'cache')]
  const server = await startServer([...folders, '--max-batch', '2', '--threads', '1'])
  const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'x', maxRetries: 0 })
  const anthropic = new Anthropic({ baseURL: server.url, apiKey: 'x', maxRetries: 0 })
  const model = 'tiny-reasoner'
  const content = 'What is 2 + 2?'
  const messages = [{ role: 'user' as const, content }]
  const settings = { model, temperature: 0, seed: 1 }

  function check(name: string, given: unknown): void {
    const args = typeof given === 'string' ? JSON.parse(given) : given
    assert.equal(name, 'measure')
    assert.ok(Number.isInteger(args.a) && ['cm', 'm'].includes(args.unit), JSON.stringify(args))
  }

  const tests = async () => {
    const choice = { type: 'function' as const, function: { name: 'measure' } }
    const asked = { ...settings, messages, tools, tool_choice: choice, max_tokens: 400 }
    const whole = await openai.chat.completions.create(asked)
    const [called] = whole.choices[0]!.message.tool_calls!
    assert.ok(called?.type === 'function')
    check(called.function.name, called.function.arguments)
    const final = await openai.chat.completions.stream(asked).finalChatCompletion()
    const [streamed] = final.choices[0]!.message.tool_calls!
    assert.ok(streamed?.type === 'function')
    assert.equal(streamed.function.arguments, called.function.arguments)

    const [plain] = [{ type: 'function' as const, name: 'measure', parameters, strict: null }]
    const response = await openai.responses.create({
      ...{ model, input: content, temperature: 0, max_output_tokens: 400 },
      tools: [plain!],
      tool_choice: 'required',
    })
    const item = response.output.at(-1)
    assert.ok(item?.type === 'function_call')
    check(item.name, item.arguments)

    const message = await anthropic.messages.create({
      ...{ model, messages, temperature: 0, max_tokens: 400 },
      tools: [{ name: 'measure', input_schema: parameters as Anthropic.Tool.InputSchema }],
      tool_choice: { type: 'any' },
    })
    const block = message.content.at(-1)
    assert.ok(block?.type === 'tool_use' && message.stop_reason === 'tool_use')
    check(block.name, block.input)
  }

  try {
    await within(patience, 'calls', tests())
  } finally {
    assert.equal(await server.stop(), 0)
  }
})
