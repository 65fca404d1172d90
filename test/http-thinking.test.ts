// Thinking switched on and off, and messages continued, by every name that clients know: what the engine
// gets, and which requests contradict themselves.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createFront, goodChat, readJson, userMessage } from './support/front.ts'

const chat = '/v1/chat/completions'

/** What the engine is asked for. */
async function promptOf(fields: Record<string, unknown>) {
  const front = createFront()
  const response = await front.post(chat, { ...goodChat, ...fields })
  assert.equal(response.status, 200, await response.clone().text())
  const { prompt } = front.engine.requests[0]!
  assert.ok(prompt.kind === 'messages')
  return prompt
}

async function errorOf(fields: Record<string, unknown>) {
  const response = await createFront().post(chat, { ...goodChat, ...fields })
  assert.equal(response.status, 400, JSON.stringify(fields))
  return (await readJson(response)).error
}

const begun = { role: 'assistant', content: 'It is' } as const

describe('thinking', () => {
  const off: ReadonlyArray<Record<string, unknown>> = [
    { enable_thinking: false },
    { think: false },
    { thinking: false },
    { thinking: { type: 'disabled' } },
    { reasoning_effort: 'none' },
    { reasoning: { effort: 'none' } },
    { reasoning: { enabled: false } },
    { chat_template_kwargs: { enable_thinking: false } },
    { chat_template_kwargs: { thinking: false } },
    { enable_thinking: false, reasoning_effort: 'none', chat_template_kwargs: { thinking: false } },
    { enable_thinking: false, reasoning_effort: 'low' },
  ]
  const on: ReadonlyArray<Record<string, unknown>> = [
    { enable_thinking: true },
    { think: 'high' },
    { thinking: { type: 'enabled' } },
    { reasoning: { enabled: true, effort: 'low' } },
    { chat_template_kwargs: { enable_thinking: true, thinking: null } },
  ]
  const asItIs: ReadonlyArray<Record<string, unknown>> = [
    {},
    { enable_thinking: null, think: null, thinking: null, reasoning: null, reasoning_effort: null },
    { reasoning_effort: 'minimal', reasoning: {}, chat_template_kwargs: {} },
    { thinking: { type: 'auto' } },
  ]
  for (const [title, want, bodies] of [
    ['is switched off', false, off],
    ['is asked for', true, on],
    ['is left to the template', undefined, asItIs],
  ] as const) {
    for (const fields of bodies) {
      it(`${title} by ${JSON.stringify(fields)}`, async () => {
        assert.equal((await promptOf(fields)).thinking, want)
      })
    }
  }

  for (const [fields, param] of [
    [{ enable_thinking: true, reasoning_effort: 'none' }, 'reasoning_effort'],
    [{ think: true, thinking: { type: 'disabled' } }, 'thinking'],
    [
      { enable_thinking: false, chat_template_kwargs: { thinking: true } },
      'chat_template_kwargs.thinking',
    ],
    [{ reasoning: { enabled: true, effort: 'none' } }, 'reasoning.effort'],
    [{ reasoning: { max_tokens: 9 } }, 'reasoning.max_tokens'],
    [{ include_reasoning: true, reasoning: { exclude: true } }, 'reasoning.exclude'],
    [{ thinking: 'yes' }, 'thinking'],
  ] as const) {
    it(`${JSON.stringify(fields)} is refused by name`, async () => {
      assert.equal((await errorOf(fields)).param, param)
    })
  }

  it('is hidden by include_reasoning: false and by reasoning.exclude', async () => {
    for (const fields of [{ include_reasoning: false }, { reasoning: { exclude: true } }]) {
      const { choices } = await readJson(await createFront().post(chat, { ...goodChat, ...fields }))
      assert.equal('reasoning' in choices[0].message, false)
    }
  })
})

describe('a message to continue', () => {
  it('is the last, by continue_final_message or by prefix on it', async () => {
    const messages = [userMessage, begun]
    for (const fields of [
      { messages, continue_final_message: true },
      { messages, continue_final_message: true, add_generation_prompt: false },
      { messages: [userMessage, { ...begun, prefix: true }] },
      { messages: [userMessage, { ...begun, prefix: true }], add_generation_prompt: false },
    ]) {
      const prompt = await promptOf(fields)
      assert.equal(prompt.continuesLast, true)
      assert.deepEqual(prompt.messages, messages)
    }
    const plain = await promptOf({ messages: [userMessage, { ...begun, prefix: false }] })
    assert.equal(plain.continuesLast, undefined)
  })

  it('has its thought before its content, which may be absent', async () => {
    const contentOf = async (message: object) => {
      const messages = [userMessage, { role: 'assistant', prefix: true, ...message }]
      return (await promptOf({ messages })).messages.at(-1)?.content
    }
    assert.equal(await contentOf({ reasoning_content: 'So' }), '<think>\nSo')
    assert.equal(await contentOf({ reasoning: 'So', content: null }), '<think>\nSo')
    const both = await contentOf({ reasoning: 'So', content: 'It is' })
    assert.equal(both, '<think>\nSo\n</think>\n\nIt is')
    assert.equal(await contentOf({ reasoning: null, content: 'It is' }), 'It is')
  })

  const last = { messages: [userMessage, begun], continue_final_message: true }
  const thought = { role: 'assistant', content: '<think>a', reasoning: 'b', prefix: true }
  for (const [fields, param] of [
    [{ ...last, add_generation_prompt: true }, 'add_generation_prompt'],
    [{ ...last, messages: [userMessage] }, 'messages'],
    [{ messages: [{ ...begun, prefix: true }, userMessage] }, 'messages.0.prefix'],
    [{ messages: [{ ...userMessage, prefix: true }] }, 'messages.0.prefix'],
    [{ messages: [userMessage, { ...begun, prefix: 'yes' }] }, 'messages.1.prefix'],
    [
      { messages: [userMessage, { ...begun, prefix: true }], continue_final_message: false },
      'messages.1.prefix',
    ],
    [{ messages: [userMessage, begun], add_generation_prompt: false }, 'add_generation_prompt'],
    [{ messages: [userMessage, thought] }, 'messages.1.reasoning'],
    [{ messages: [userMessage, { ...begun, reasoning: 5 }] }, 'messages.1.reasoning'],
  ] as const) {
    it(`${JSON.stringify(fields)} is refused by name`, async () => {
      assert.equal((await errorOf(fields)).param, param)
    })
  }
})

describe('the history', () => {
  for (const message of [
    { role: 'assistant', content: null, reasoning: 'x' },
    { role: 'assistant', reasoning_content: 'x' },
    { role: 'assistant', content: '', reasoning: 'x', reasoning_content: 'x', refusal: null },
    { role: 'assistant', content: [], tool_calls: null, function_call: null, audio: null },
    { role: 'assistant' },
  ]) {
    it(`takes ${JSON.stringify(message)} as an empty answer`, async () => {
      const { messages } = await promptOf({ messages: [userMessage, message, userMessage] })
      assert.deepEqual(messages[1], { role: 'assistant', content: '' })
    })
  }
})

describe('--require-adapter', () => {
  it('holds whatever the client says of thinking or begins to say', async () => {
    const required = { id: 'safety-r1', minScale: 0.5 }
    for (const fields of [
      { enable_thinking: false },
      { reasoning_effort: 'none' },
      { messages: [userMessage, begun], continue_final_message: true },
      { messages: [userMessage, { ...begun, content: '<think>\n</think>Sure', prefix: true }] },
    ]) {
      const config = { requireAdapter: required, begunAnswers: 'allow' } as const
      const front = createFront({ config })
      const refused = await front.post(chat, { ...goodChat, ...fields, adapter: 'none' })
      assert.ok(refused.status >= 400, await refused.text())
      const response = await front.post(chat, { ...goodChat, ...fields, adapter: 'safety-r1' })
      assert.equal(response.status, 200)
      assert.match(response.headers.get('x-adapter') ?? '', /^safety-r1@/)
      const [request] = front.engine.requests.slice(-1)
      assert.deepEqual(
        request?.required.map(({ id }) => id),
        ['safety-r1'],
      )
    }
  })
})

describe('/tokenize', () => {
  it('takes the same fields for a chat, and the prompt without an ending', async () => {
    const front = createFront()
    const inputs: unknown[] = []
    const { tokenize } = front.engine
    front.engine.tokenize = (input, turn) => {
      inputs.push(input)
      return tokenize(input, turn)
    }
    for (const fields of [
      { messages: [userMessage] },
      { messages: [userMessage], add_generation_prompt: false, enable_thinking: false },
      { messages: [userMessage, begun], continue_final_message: true },
    ]) {
      assert.equal((await front.post('/tokenize', fields)).status, 200)
    }
    const shape = inputs.map((input) => {
      const { addGenerationPrompt, thinking, continuesLast } = input as Record<string, unknown>
      return [addGenerationPrompt, thinking, continuesLast]
    })
    assert.deepEqual(shape, [
      [true, undefined, undefined],
      [false, false, undefined],
      [false, undefined, true],
    ])
  })
})
