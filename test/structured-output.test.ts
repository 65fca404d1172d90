// Structured output from the real server with models/tiny-reasoner: the official client's own helpers,
// other servers' spellings, and random schemas of which every answer validates.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import OpenAI from 'openai'
import { zodResponseFormat } from 'openai/helpers/zod'
import { z } from 'zod'
import { type CompletionReply, countOf, findFault, runCampaign } from './structured/campaign.ts'
import { causeOfCut, shortestBytes } from './structured/cut.ts'
import { type RealServer, startServer } from './support/real-server.ts'
import { createTempFolder } from './support/temp-folder.ts'

const model = 'tiny-reasoner'
const messages = [{ role: 'user' as const, content: 'What is 12 + 30?' }]
const person = z.object({
  name: z.string().max(12),
  age: z.int().min(0).max(120),
  pets: z.array(z.enum(['cat', 'dog'])).max(2),
})

describe('structured output', () => {
  let server: RealServer
  let client: OpenAI

  before(async () => {
    const cache = join(createTempFolder(), 'cache')
    server = await startServer(['--cache-dir', cache, '--max-batch', '8', '--kv-memory', '256MiB'])
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0 })
  })
  after(async () => {
    assert.equal(await server?.stop(), 0)
  })

  async function complete(
    fields: Record<string, unknown>,
  ): Promise<CompletionReply & { status: number }> {
    const response = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model, prompt: 'So: ', max_tokens: 64, seed: 3, ...fields }),
    })
    return { status: response.status, ...((await response.json()) as CompletionReply) }
  }

  it('.parse() of the openai package gives an object of its zod schema, behind a thought', async () => {
    const answer = await client.chat.completions.parse({
      ...{ model, messages, max_tokens: 300, seed: 1 },
      response_format: zodResponseFormat(person, 'person'),
    })
    const [choice] = answer.choices
    assert.equal(choice?.finish_reason, 'stop')
    const { message } = choice
    assert.ok(person.safeParse(message.parsed).success, message.content ?? '')
    assert.ok((message as unknown as { reasoning: string }).reasoning.length > 0)
  })

  it('a stream says the same as the whole answer', async () => {
    const body = {
      ...{ model, messages, max_tokens: 300, seed: 2, temperature: 1 },
      response_format: zodResponseFormat(person, 'person'),
    }
    const whole = await client.chat.completions.create(body)
    const stream = await client.chat.completions.create({ ...body, stream: true })
    let text = ''
    for await (const { choices } of stream) text += choices[0]?.delta.content ?? ''
    assert.equal(text, whole.choices[0]?.message.content)
    assert.ok(person.safeParse(JSON.parse(text)).success)
  })

  it('takes the spellings of vLLM, SGLang and llama.cpp', async () => {
    const schema = { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] }
    const isObject = (text: string) => findFault(JSON.stringify(schema), text) === null
    const isDate = (text: string) => /^\d{4}-[a-z]{3}$/.test(text)
    const isYesOrNo = (text: string) => /^(yes|no)$/.test(text)
    for (const [fields, holds] of [
      [{ guided_json: schema }, isObject],
      [{ guided_json: JSON.stringify(schema) }, isObject],
      [{ structured_outputs: { json: schema } }, isObject],
      [{ json_schema: schema }, isObject],
      [{ response_format: { type: 'json_object', schema } }, isObject],
      [{ response_format: { type: 'json_schema', schema } }, isObject],
      [{ guided_regex: '\\d{4}-[a-z]{3}' }, isDate],
      [{ structured_outputs: { regex: '\\d{4}-[a-z]{3}' } }, isDate],
      [{ regex: '\\d{4}-[a-z]{3}' }, isDate],
      [{ guided_choice: ['yes', 'no'] }, isYesOrNo],
      [{ structured_outputs: { choice: ['yes', 'no'] } }, isYesOrNo],
      [{ guided_grammar: 'root ::= "yes" | "no"' }, isYesOrNo],
      [{ grammar: 'root ::= "yes" | "no"' }, isYesOrNo],
      [{ ebnf: 'root ::= "yes" | "no"' }, isYesOrNo],
      [{ extra_body: { guided_choice: ['yes', 'no'] } }, isYesOrNo],
    ] as const) {
      const { status, choices, error } = await complete({ ...fields, n: 2, temperature: 1 })
      assert.equal(status, 200, `${JSON.stringify(fields)} ${error?.message}`)
      for (const { text } of choices) assert.ok(holds(text), `${JSON.stringify(fields)}: ${text}`)
    }
  })

  it('json_object is an object, and what is cut says length', async () => {
    const { choices } = await complete({ response_format: { type: 'json_object' }, max_tokens: 3 })
    assert.equal(choices[0]!.finish_reason, 'length')
    assert.ok(choices[0]!.text.startsWith('{'))
  })

  it('what cannot be decoded by is a 400 that names its field; the server goes on', async () => {
    for (const [fields, param, named] of [
      [{ guided_json: { type: 'nonsense' } }, 'guided_json', '#/type'],
      [{ guided_json: '{' }, 'guided_json', 'not JSON'],
      [{ guided_regex: '((((' }, 'guided_regex', '(((('],
      [{ structured_outputs: { regex: '(?=a)' } }, 'structured_outputs.regex', '(?=a)'],
      [{ extra_body: { grammar: 'root ::= root' } }, 'extra_body.grammar', '"root"'],
      [{ guided_json: { $ref: '#' } }, 'guided_json', 'itself'],
      [{ guided_json: { not: {} } }, 'guided_json', '"not"'],
      [{ guided_json: JSON.parse('{"__proto__":{}}') }, 'guided_json', '"__proto__"'],
      [{ guided_json: false }, 'guided_json', 'no text'],
      [{ guided_choice: ['a', '\ud800'] }, 'guided_choice.1', 'text'],
      [{ guided_json: {}, guided_regex: 'a' }, 'guided_regex', 'guided_json'],
      [
        {
          response_format: {
            type: 'json_schema',
            json_schema: { strict: true, schema: { type: 'object', properties: { a: {} } } },
          },
        },
        'response_format.json_schema.schema',
        'additionalProperties',
      ],
      [
        { guided_json: { type: 'string', pattern: '(a{1,99}){1,99}', maxLength: 9000 } },
        'guided_json',
        '',
      ],
    ] as const) {
      const { status, error } = await complete(fields)
      assert.equal(status, 400, JSON.stringify(fields))
      assert.equal(error.param, param, error.message)
      assert.ok(error.message.includes(named), error.message)
    }
    const { choices } = await complete({ guided_choice: ['still'] })
    assert.equal(choices[0]!.text, 'still')
  })

  it('a row without a grammar says the same beside rows that have one', async () => {
    const free = { max_tokens: 40, temperature: 1, seed: 9, logprobs: 2 }
    const alone = await complete(free)
    const [beside] = await Promise.all([
      complete(free),
      ...[1, 2, 3].map((seed) =>
        complete({ guided_json: { type: 'object' }, temperature: 1, seed }),
      ),
    ])
    assert.deepEqual(beside!.choices, alone.choices)
  })

  it('every answer to 100 random schemas validates', async () => {
    const answers = await runCampaign({
      ...{ url: `${server.url}/v1`, model, seed: 1, count: 100, maxTokens: 200, width: 8 },
    })
    assert.deepEqual(
      answers.filter(({ kind }) => kind === 'invalid'),
      [],
    )
    const numValid = countOf(answers, 'valid')
    assert.ok(numValid > 60, `${numValid} valid, ${countOf(answers, 'cut')} cut`)
    // A schema whose shortest answer is longer would be cut whatever the model says.
    for (const { schema } of answers) assert.ok(shortestBytes(schema) <= 200, schema)
  })
})

it('an answer that was cut is told by what it is mostly made of', () => {
  assert.equal(causeOfCut(`{"a": "${'so '.repeat(40)}`), 'in a string')
  assert.equal(causeOfCut(`{"a": ${'1'.repeat(40)}`), 'of digits')
  assert.equal(causeOfCut('{"next": '.repeat(20)), 'of nested values')
  assert.equal(causeOfCut(`[${'"a", '.repeat(40)}`), 'of many values')
  assert.equal(shortestBytes('{"type": "string", "minLength": 3}'), 5)
  assert.equal(shortestBytes('{"type": "array", "items": {"type": "null"}, "minItems": 200}'), 1001)
})
