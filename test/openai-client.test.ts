// The official openai package against the real server with models/tiny-reasoner: nothing faked.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import OpenAI from 'openai'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import { within } from './support/deadline.ts'
import { type RealServer, startServer } from './support/real-server.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { upTensors, writeAdapter } from './support/tensor-files.ts'

const patience = 60_000
const model = 'tiny-reasoner'
const messages = [{ role: 'user' as const, content: 'What is 12 + 30?' }]
const temp = createTempFolder()
const adapters = join(temp, 'adapters')

type Chat = OpenAI.ChatCompletionCreateParamsNonStreaming

describe('the openai package on the real server', () => {
  let server: RealServer
  let client: OpenAI

  before(async () => {
    const checkpoint = openCheckpoint(join(root, 'models', 'tiny-reasoner'))
    const { config } = checkpoint
    checkpoint.close()
    const layers = Array.from({ length: config.numLayers }, (_, layer) => layer)
    for (const [id, seed] of [
      ['loud', 1],
      ['odd', 2],
    ] as const) {
      const tensors = upTensors({ layers, seed, model: config })
      writeAdapter(adapters, id, { config: { lora_alpha: 6 }, tensors })
    }
    const cache = join(temp, 'cache')
    const limits = ['--max-batch', '2', '--threads', '1', '--kv-memory', '256MiB']
    server = await startServer(['--adapters', adapters, '--cache-dir', cache, ...limits])
    client = new OpenAI({
      baseURL: `${server.url}/v1`,
      apiKey: 'unused',
      maxRetries: 0,
      timeout: patience,
    })
  })
  after(async () => {
    assert.equal(await server?.stop(), 0)
  })

  /** The adapter that an answer says was applied. The package keeps fields it does not know. */
  const adapterOf = (answer: object) =>
    (answer as { adapter?: { id: string; digest: string; scale: number }[] }).adapter

  /** Thought and answer of a chat, greedy unless said otherwise. */
  async function chat(fields: Partial<Chat> & Record<string, unknown> = {}) {
    const body: Chat = { model, messages, temperature: 0, max_tokens: 48, ...fields }
    const answer = await client.chat.completions.create(body)
    const texts = answer.choices.map(({ message }) => {
      const { reasoning_content: thought } = message as { reasoning_content?: string | null }
      return `${thought ?? ''}</think>${message.content ?? ''}`
    })
    return { answer, texts, text: texts[0] ?? '' }
  }

  /** The APIError a call is rejected with. */
  async function errorOf(call: Promise<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
    const error = await call.then(
      () => assert.fail('expected an error'),
      (reason: unknown) => reason,
    )
    assert.ok(error instanceof OpenAI.APIError, String(error))
    return error
  }

  async function metric(series: string): Promise<number> {
    const page = await (await fetch(`${server.url}/metrics`)).text()
    const line = page.split('\n').find((candidate) => candidate.startsWith(series))
    return Number(line?.split(' ').at(-1) ?? Number.NaN)
  }

  it('chats: thought and answer apart, usage that adds up, the adapter attested', async () => {
    const { answer } = await chat({ max_tokens: 400 })
    const [choice] = answer.choices
    assert.equal(choice?.finish_reason, 'stop')
    assert.ok(choice?.message.content)
    assert.doesNotMatch(choice.message.content, /think>/)
    const { reasoning_content: thought } = choice.message as { reasoning_content?: string }
    assert.ok(thought && thought.length > 0)
    const usage = answer.usage as OpenAI.CompletionUsage
    assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    const reasoningTokens = usage.completion_tokens_details?.reasoning_tokens ?? 0
    assert.ok(reasoningTokens > 0 && reasoningTokens < usage.completion_tokens)
    assert.deepEqual(adapterOf(answer), [])
    assert.match(answer._request_id ?? '', /./)
  })

  it('streams what it answers at once, with usage at the end', async () => {
    const { text, answer } = await chat()
    const stream = await client.chat.completions.create({
      model,
      messages,
      temperature: 0,
      max_tokens: 48,
      stream: true,
      stream_options: { include_usage: true },
    })
    let thought = ''
    let content = ''
    let usage: OpenAI.CompletionUsage | null | undefined
    const ends: (string | null)[] = []
    for await (const chunk of stream) {
      usage = chunk.usage ?? usage
      for (const { delta, finish_reason } of chunk.choices) {
        thought += (delta as { reasoning_content?: string }).reasoning_content ?? ''
        content += delta.content ?? ''
        if (finish_reason !== null) ends.push(finish_reason)
      }
    }
    assert.equal(`${thought}</think>${content}`, text)
    assert.deepEqual(usage, answer.usage)
    assert.deepEqual(ends, [answer.choices[0]?.finish_reason])
  })

  it('gives n choices, each of its own', async () => {
    const { texts, answer } = await chat({ n: 4, temperature: 2, top_p: 1, seed: 3 })
    assert.deepEqual(
      answer.choices.map(({ index }) => index),
      [0, 1, 2, 3],
    )
    assert.ok(new Set(texts).size > 1, texts[0])
  })

  it('gives log-probabilities of every token, the best ones first', async () => {
    const { answer } = await chat({ logprobs: true, top_logprobs: 5, max_tokens: 12 })
    const tokens = answer.choices[0]?.logprobs?.content ?? []
    assert.equal(tokens.length, answer.usage?.completion_tokens)
    for (const { token, logprob, top_logprobs: top } of tokens) {
      assert.equal(top.length, 5)
      assert.equal(top[0]?.token, token, 'greedy takes the best')
      assert.ok(logprob <= 0 && Math.abs((top[0]?.logprob ?? 1) - logprob) < 1e-9)
      for (let i = 1; i < 5; i++) assert.ok((top[i]?.logprob ?? 1) <= (top[i - 1]?.logprob ?? 0))
    }
  })

  it('ends the answer at a stop string without showing it; the thought may hold it', async () => {
    const { text: whole } = await chat({ max_tokens: 400 })
    const [thought = '', content = ''] = whole.split('</think>')
    const stop = content.slice(4, 7)
    const { answer, text } = await chat({ stop: [stop], max_tokens: 400 })
    assert.equal(answer.choices[0]?.finish_reason, 'stop')
    assert.equal(text, `${thought}</think>${content.slice(0, content.indexOf(stop))}`)
    const inThought = ['\n\n', thought.slice(2, 5)].filter((one) => !content.includes(one))
    assert.equal((await chat({ stop: inThought, max_tokens: 400 })).text, whole)
  })

  it('takes its own answers back as they came, also one whose thought was cut', async () => {
    const { answer } = await chat({ max_tokens: 3 })
    const message = answer.choices[0]?.message
    assert.ok(message)
    assert.equal(message.content, '')
    const next = { role: 'user' as const, content: 'Go on.' }
    const { reasoning, ...others } = message as typeof message & { reasoning?: string }
    for (const said of [
      message,
      { ...others, content: null },
      { role: 'assistant' as const, reasoning },
    ]) {
      const history = [...messages, said as Chat['messages'][number], next]
      assert.equal((await chat({ messages: history })).answer.choices.length, 1)
    }
  })

  it('answers without a thought where that is asked for, by any name', async () => {
    const plain = await chat({ max_tokens: 400, enable_thinking: false })
    const message = plain.answer.choices[0]?.message as { reasoning: string | null } | undefined
    assert.equal(message?.reasoning, null)
    assert.notEqual(plain.text, '</think>')
    assert.equal(plain.answer.usage?.completion_tokens_details?.reasoning_tokens, 0)
    for (const fields of [
      { reasoning_effort: 'none' },
      { chat_template_kwargs: { enable_thinking: false } },
      { thinking: { type: 'disabled' } },
    ]) {
      assert.equal((await chat({ max_tokens: 400, ...fields } as Partial<Chat>)).text, plain.text)
    }
  })

  it('continues an answer, and a thought', async () => {
    const { text: whole } = await chat({ max_tokens: 400 })
    const [thought = '', content = ''] = whole.split('</think>')
    const begun = thought.slice(0, 6)
    const more = await chat({
      messages: [
        ...messages,
        { role: 'assistant', content: '', reasoning_content: begun, prefix: true } as never,
      ],
      max_tokens: 400,
    })
    assert.equal(more.text.split('</think>').length, 2)
    const answered = await chat({
      messages: [...messages, { role: 'assistant', content: content.slice(0, 8) }],
      max_tokens: 400,
      continue_final_message: true,
      add_generation_prompt: false,
    } as Partial<Chat>)
    assert.ok(answered.text.startsWith('</think>'), answered.text)
  })

  it('ends by length with finish_reason length', async () => {
    const { answer } = await chat({ max_tokens: 3 })
    assert.equal(answer.choices[0]?.finish_reason, 'length')
    assert.equal(answer.usage?.completion_tokens, 3)
  })

  it('gives the same text for the same seed, alone and among others', async () => {
    const seeded = () => chat({ temperature: 2, top_p: 1, seed: 42 })
    const { text } = await seeded()
    const others = [1, 2, 3].map((seed) => chat({ temperature: 2, seed, adapter: 'loud' }))
    const [again, ...rest] = await Promise.all([seeded(), ...others])
    assert.equal(again.text, text)
    assert.ok(rest.some((other) => other.text !== text))
  })

  it('switches adapters per request, by body, model and query, and says which was applied', async () => {
    const base = await chat()
    const loud = await chat({ adapter: 'loud' })
    assert.notEqual(loud.text, base.text)
    assert.deepEqual(
      adapterOf(loud.answer)?.map(({ id, scale }) => ({ id, scale })),
      [{ id: 'loud', scale: 1 }],
    )
    assert.match(adapterOf(loud.answer)?.[0]?.digest ?? '', /^[0-9a-f]{12}/)
    assert.equal((await chat({ model: 'loud' })).text, loud.text)
    const body: Chat = { model, messages, temperature: 0, max_tokens: 48 }
    const query = await client.chat.completions.create(body, { query: { adapter: 'loud:0' } })
    assert.equal(adapterOf(query)?.[0]?.scale, 0)
    assert.equal(query.choices[0]?.message.content, base.answer.choices[0]?.message.content)
    assert.notEqual((await chat({ adapter: 'odd' })).text, loud.text)
    assert.equal((await chat()).text, base.text)
  })

  it('lists the base and the adapters as models', async () => {
    const ids: string[] = []
    for await (const { id } of client.models.list()) ids.push(id)
    assert.deepEqual(ids.sort(), ['loud', 'odd', 'tiny-reasoner'])
    assert.equal((await client.models.retrieve('odd')).id, 'odd')
    const missing = await errorOf(client.models.retrieve('no-such'))
    assert.ok(missing instanceof OpenAI.NotFoundError)
  })

  it('completes plain text, several prompts at once, streamed or not', async () => {
    const fields = { model, temperature: 0, max_tokens: 8 }
    const answer = await client.completions.create({ ...fields, prompt: ['What is', 'The duck'] })
    assert.equal(answer.choices.length, 2)
    for (const { text } of answer.choices) assert.notEqual(text, '')
    const stream = await client.completions.create({ ...fields, prompt: 'What is', stream: true })
    let text = ''
    for await (const chunk of stream) text += chunk.choices[0]?.text ?? ''
    assert.equal(text, answer.choices[0]?.text)
  })

  it('echoes prompts with logprobs, in batches of token ids, as evaluation harnesses ask', async () => {
    const encode = async (prompt: string) => {
      const response = await fetch(`${server.url}/tokenize`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model, prompt }),
      })
      return ((await response.json()) as { tokens: number[] }).tokens
    }
    const fields = { model, temperature: 0, seed: 1234, logprobs: 1 }
    const said = await client.completions.create({ ...fields, prompt: 'What is 1', max_tokens: 6 })
    const answer = said.choices[0]?.logprobs?.token_logprobs ?? []
    assert.equal(answer.length, 6)

    // The same tokens as a prompt: each is as likely as when it was said.
    const context = await encode('What is 1')
    const whole = await encode(`What is 1${said.choices[0]?.text}`)
    const other = await encode('The duck')
    const echoed = await client.completions.create({
      ...fields,
      prompt: [other, whole],
      echo: true,
      max_tokens: 1,
    })
    assert.deepEqual(
      echoed.choices.map(({ index }) => index),
      [0, 1],
    )
    const { logprobs } = echoed.choices[1] ?? {}
    assert.equal(logprobs?.tokens?.length, whole.length + 1)
    assert.equal(logprobs?.token_logprobs?.[0], null)
    assert.equal(logprobs?.top_logprobs?.[0], null)
    const continuation = logprobs?.token_logprobs?.slice(context.length, -1) ?? []
    assert.equal(continuation.length, 6)
    for (const [i, logprob] of continuation.entries()) {
      assert.ok(Math.abs(logprob - (answer[i] ?? 0)) < 1e-3, `token ${i}: ${logprob}, ${answer[i]}`)
      const top: Record<string, number> = logprobs?.top_logprobs?.[context.length + i] ?? {}
      const [likeliest] = Object.values(top)
      assert.equal(logprob, likeliest, 'greedy tokens are the likeliest')
    }

    const nothing = { ...fields, prompt: 'What is 1', echo: true, max_tokens: 0 }
    const alone = await client.completions.create(nothing)
    assert.equal(alone.choices[0]?.text, 'What is 1')
    assert.equal(alone.usage?.completion_tokens, 0)
    assert.equal(alone.choices[0]?.logprobs?.tokens?.length, context.length)
  })

  it('takes the turns of a chat over that were computed before, as far as the template keeps them', async () => {
    const system = 'You are a patient teacher. '.repeat(4)
    const first = [
      { role: 'system' as const, content: system },
      { role: 'user' as const, content: 'What is 12 + 30?' },
    ]
    const cachedOf = async (messages: Chat['messages']) => {
      const { usage, choices } = await client.chat.completions.create({
        model,
        messages,
        temperature: 0,
        max_tokens: 48,
      })
      const cached = usage?.prompt_tokens_details?.cached_tokens ?? 0
      return {
        cached,
        content: choices[0]?.message.content ?? '',
        prompt: usage?.prompt_tokens ?? 0,
      }
    }
    const one = await cachedOf(first)
    const again = { role: 'assistant' as const, content: one.content }
    const next = { role: 'user' as const, content: 'And 1 more?' }
    const two = await cachedOf([...first, again, next])
    // The thought of turn 1 is not in turn 2's prompt, so what follows it is new.
    assert.ok(two.cached >= one.prompt - 32, `${two.cached} of ${one.prompt}`)
    assert.ok(two.cached % 16 === 0 && two.cached < two.prompt)
    const three = await cachedOf([...first, again, next])
    assert.ok(three.cached >= two.prompt - 16 - 2, `${three.cached} of ${two.prompt}`)
  })

  it('throws its own error classes, and the next request works', async () => {
    const missing = await errorOf(chat({ model: 'no-such' }))
    assert.ok(missing instanceof OpenAI.NotFoundError)
    assert.equal(missing.code, 'model_not_found')
    const adapter = await errorOf(chat({ adapter: 'no-such' }))
    assert.ok(adapter instanceof OpenAI.NotFoundError)
    assert.equal(adapter.code, 'model_not_found')
    const hot = await errorOf(chat({ temperature: 9 }))
    assert.ok(hot instanceof OpenAI.BadRequestError)
    assert.equal(hot.param, 'temperature')
    const content = 'What is 12 + 30? '.repeat(600)
    const long = await errorOf(chat({ messages: [{ role: 'user', content }] }))
    assert.ok(long instanceof OpenAI.BadRequestError)
    assert.equal(long.code, 'context_length_exceeded')
    assert.match(long.message, /2048/)
    assert.equal((await chat({ max_tokens: 2 })).answer.choices.length, 1)
  })

  it('an aborted stream gives its slot back', async () => {
    // Two rows: both are taken by streams that would run to the end of the context.
    const start = () =>
      client.chat.completions.create({
        model,
        messages,
        stream: true,
        max_tokens: 1900,
        ignore_eos: true,
      } as OpenAI.ChatCompletionCreateParamsStreaming)
    const streams = await Promise.all([start(), start()])
    for (const stream of streams) {
      const first = stream[Symbol.asyncIterator]().next()
      await within(patience, 'first chunk', first)
    }
    const generated = () => metric('vllm:generation_tokens_total')
    const before = await generated()
    for (const stream of streams) stream.controller.abort()
    await within(patience, 'chat after the aborts', chat({ max_tokens: 2 }))
    const isIdle = async () => {
      while ((await metric('vllm:num_requests_running')) > 0);
    }
    await within(patience, 'idle engine', isIdle())
    assert.ok((await generated()) - before < 2 * 1900, 'the aborted streams ran to their end')
  })
})
