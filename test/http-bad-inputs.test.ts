// Bad input to the front, as a table: request, status, code,
// param. After each one the next good request works, and the error body tells nothing it should not.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createFakeEngine } from './support/fake-engine.ts'
import { createFront, goodChat, readJson, userMessage } from './support/front.ts'

const chat = '/v1/chat/completions'
const completions = '/v1/completions'

interface Row {
  readonly name: string
  readonly path?: string
  readonly init?: RequestInit
  /** Merged into a good chat body. */
  readonly fields?: Record<string, unknown>
  /** The whole body: text as it is, anything else as JSON. */
  readonly body?: unknown
  readonly status: number
  readonly code?: string
  readonly param?: string
}

const bad = (
  name: string,
  fields: Record<string, unknown>,
  param: string,
  code = 'invalid_value',
) => ({ name, fields, status: 400, code, param }) satisfies Row
const unsupported = (name: string, fields: Record<string, unknown>) =>
  bad(name, fields, Object.keys(fields)[0] as string, 'unsupported_parameter')
const messages = (name: string, value: unknown, param: string, code?: string) =>
  bad(name, { messages: value }, param, code)
const content = (name: string, value: unknown, param: string, code?: string) =>
  messages(name, [{ role: 'user', content: value }], param, code)
const whole = (name: string, body: unknown, code: string, init?: RequestInit): Row => ({
  name,
  body,
  status: 400,
  code,
  ...(init ? { init } : {}),
})

const deep = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`
const bytes = (text: string, ...tail: number[]) => Buffer.from([...Buffer.from(text), ...tail])

const http: readonly Row[] = [
  whole('an empty body', '', 'invalid_json'),
  whole('broken JSON', '{"model": "tiny", ', 'invalid_json'),
  whole('a string', '"text"', 'invalid_request'),
  whole('a list', '[]', 'invalid_request'),
  whole('a number', '42', 'invalid_request'),
  whole('null', 'null', 'invalid_request'),
  {
    name: 'text/plain',
    status: 415,
    code: 'unsupported_media_type',
    init: { headers: { 'content-type': 'text/plain' } },
  },
  {
    name: 'a form',
    status: 415,
    code: 'unsupported_media_type',
    init: { headers: { 'content-type': 'application/x-www-form-urlencoded' } },
  },
  {
    name: 'gzip',
    status: 415,
    code: 'unsupported_media_type',
    init: { headers: { 'content-encoding': 'gzip' } },
  },
  {
    name: 'Content-Length over the limit',
    status: 413,
    code: 'request_too_large',
    init: { headers: { 'content-length': '200001' } },
  },
  {
    name: 'a body over the limit',
    fields: { messages: [{ role: 'user', content: 'x'.repeat(200_001) }] },
    status: 413,
    code: 'request_too_large',
  },
  whole('nested 50 k deep', `{"model":"tiny","x":${deep(50_000)}}`, 'invalid_json'),
  whole('nested 65 deep in messages', `{"model":"tiny","messages":${deep(65)}}`, 'invalid_json'),
  whole(
    'invalid UTF-8',
    bytes('{"model":"tiny","messages":[{"role":"user","content":"', 0xff, 0x22, 0x7d, 0x5d, 0x7d),
    'invalid_json',
  ),
  { name: 'an unknown route', path: '/v1/nothing', status: 404, code: 'not_found' },
  { name: 'the root', path: '/', init: { method: 'GET' }, status: 404, code: 'not_found' },
  { name: 'GET on chat', init: { method: 'GET' }, status: 405, code: 'method_not_allowed' },
  {
    name: 'DELETE on models',
    path: '/v1/models',
    init: { method: 'DELETE' },
    status: 405,
    code: 'method_not_allowed',
  },
  {
    name: '19 ..%2f in a model id',
    path: '/v1/models/..%2f..%2fetc%2fpasswd',
    init: { method: 'GET' },
    status: 404,
    code: 'model_not_found',
  },
  {
    name: '19 %00 in an adapter id',
    path: '/v1/adapters/a%00b',
    init: { method: 'GET' },
    status: 404,
    code: 'model_not_found',
  },
  {
    name: 'an encoded backslash',
    path: '/v1/%5c..%5cx',
    init: { method: 'GET' },
    status: 404,
    code: 'not_found',
  },
  {
    name: 'a rebound Host',
    init: { headers: { host: 'evil.example:8000' } },
    status: 403,
    code: 'host_not_allowed',
  },
]

const called = {
  role: 'assistant',
  content: null,
  tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } }],
}
const result = { role: 'tool', content: 'x', tool_call_id: 'a' }
const toolCalls = (path = '') => `messages.0.tool_calls${path}`

const tool = { type: 'function', function: { name: 'f' } }
const named = { tools: [tool], tool_choice: { type: 'function', function: { name: 'g' } } }
const inForm = {
  tools: [tool],
  tool_choice: 'required',
  response_format: { type: 'json_object' },
}

const chatFields: readonly Row[] = [
  messages('messages missing', undefined, 'messages'),
  messages('messages []', [], 'messages'),
  messages('messages null', null, 'messages'),
  messages('messages a string', 'hello', 'messages'),
  messages('messages [123]', [123], 'messages.0'),
  messages('messages [{}]', [{}], 'messages.0.role'),
  messages('an unknown role', [{ role: 'robot', content: 'x' }], 'messages.0.role'),
  messages('role 123', [{ role: 123, content: 'x' }], 'messages.0.role'),
  messages('role __proto__', [{ role: '__proto__', content: 'x' }], 'messages.0.role'),
  messages(
    'a tool message without a call',
    [userMessage, { role: 'tool', content: 'x', tool_call_id: 'a' }],
    'messages.1.tool_call_id',
  ),
  messages(
    'a second result of one call',
    [userMessage, called, result, result],
    'messages.3.tool_call_id',
  ),
  messages(
    'a result behind another message',
    [userMessage, called, userMessage, result],
    'messages.3.tool_call_id',
  ),
  messages('a call that is none', [{ role: 'assistant', tool_calls: [{}] }], toolCalls('.0')),
  messages('calls of a user', [{ ...called, role: 'user', content: 'x' }], toolCalls()),
  messages(
    'two calls of one id',
    [{ ...called, tool_calls: [...called.tool_calls, ...called.tool_calls] }],
    toolCalls(),
  ),
  messages(
    'arguments that are no JSON',
    [{ ...called, tool_calls: [{ id: 'a', function: { name: 'f', arguments: '{"a"' } }] }],
    toolCalls('.0.function.arguments'),
  ),
  messages(
    'a function message',
    [{ role: 'function', content: 'x' }],
    'messages.0.role',
    'unsupported_value',
  ),
  content('content 123', 123, 'messages.0.content'),
  content('a user’s content null', null, 'messages.0.content'),
  content('no parts', [], 'messages.0.content'),
  content('a part without text', [{ type: 'text' }], 'messages.0.content.0.text'),
  content(
    'an image part',
    [{ type: 'image_url', image_url: { url: 'http://169.254.169.254/' } }],
    'messages.0.content.0.type',
    'unsupported_content',
  ),
  content(
    'an audio part',
    [
      { type: 'text', text: 'a' },
      { type: 'input_audio', input_audio: {} },
    ],
    'messages.0.content.1.type',
    'unsupported_content',
  ),
  content(
    'a file part',
    [{ type: 'file', file: {} }],
    'messages.0.content.0.type',
    'unsupported_content',
  ),
  messages('12 k wrong messages', Array(12_000).fill(1), 'messages'),
  messages('9 k wrong messages', Array(9_000).fill(1), 'messages.0'),
  bad('model missing', { model: undefined }, 'model'),
  bad('model a number', { model: 5 }, 'model'),
  {
    name: 'an unknown model',
    fields: { model: 'gpt-4o' },
    status: 404,
    code: 'model_not_found',
    param: 'model',
  },
  bad('a model name of 2 kB', { model: 'm'.repeat(2048) }, 'model'),
  {
    name: 'an unknown adapter',
    fields: { adapter: 'nope' },
    status: 404,
    code: 'model_not_found',
    param: 'adapter',
  },
  {
    name: 'an unknown adapter in the query',
    path: `${chat}?adapter=nope`,
    status: 404,
    code: 'model_not_found',
    param: 'adapter',
  },
  bad('temperature -1', { temperature: -1 }, 'temperature'),
  bad('temperature 2.1', { temperature: 2.1 }, 'temperature'),
  bad('temperature "x"', { temperature: 'x' }, 'temperature'),
  whole(
    'temperature NaN',
    '{"model":"tiny","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
    'invalid_json',
  ),
  whole(
    'temperature 1e999',
    '{"model":"tiny","messages":[{"role":"user","content":"x"}],"temperature":1e999}',
    'invalid_value',
  ),
  bad('top_p -0.1', { top_p: -0.1 }, 'top_p'),
  bad('top_p 1.1', { top_p: 1.1 }, 'top_p'),
  bad('top_k -2', { top_k: -2 }, 'top_k'),
  bad('min_p 1.5', { min_p: 1.5 }, 'min_p'),
  bad('max_tokens 0', { max_tokens: 0 }, 'max_tokens'),
  bad('max_tokens -2', { max_tokens: -2 }, 'max_tokens'),
  bad('max_tokens 1.5', { max_tokens: 1.5 }, 'max_tokens'),
  bad('max_tokens 1e9', { max_tokens: 1e9 }, 'max_tokens'),
  bad('max_completion_tokens 1e9', { max_completion_tokens: 1e9 }, 'max_completion_tokens'),
  bad(
    'both limits, different',
    { max_tokens: 5, max_completion_tokens: 6 },
    'max_completion_tokens',
  ),
  bad('min_tokens over max_tokens', { max_tokens: 5, min_tokens: 6 }, 'min_tokens'),
  bad('n 0', { n: 0 }, 'n', 'unsupported_value'),
  bad('n 129', { n: 129 }, 'n', 'unsupported_value'),
  bad('n 1.5', { n: 1.5 }, 'n', 'unsupported_value'),
  bad('n "2"', { n: '2' }, 'n'),
  bad('best_of 2', { best_of: 2 }, 'best_of', 'unsupported_value'),
  bad('65 stop strings', { stop: Array(65).fill('a') }, 'stop'),
  bad('9 kB of stop strings', { stop: Array(9).fill('s'.repeat(1024)) }, 'stop'),
  bad('an empty stop string', { stop: [''] }, 'stop.0'),
  bad('an empty stop', { stop: '' }, 'stop'),
  bad('a stop of 100 kB', { stop: 's'.repeat(100_000) }, 'stop'),
  bad('stop 5', { stop: 5 }, 'stop'),
  bad('a stop token outside the vocabulary', { stop_token_ids: [1000] }, 'stop_token_ids'),
  bad('logit_bias outside the vocabulary', { logit_bias: { 1000: 1 } }, 'logit_bias'),
  bad('logit_bias by a word', { logit_bias: { word: 1 } }, 'logit_bias'),
  bad('logit_bias of text', { logit_bias: { 5: 'x' } }, 'logit_bias'),
  bad('logit_bias of 101', { logit_bias: { 5: 101 } }, 'logit_bias'),
  bad('logit_bias a list', { logit_bias: [1] }, 'logit_bias'),
  bad('seed 2^64', { seed: 2 ** 64 }, 'seed'),
  bad('seed 1.5', { seed: 1.5 }, 'seed'),
  bad('seed "1"', { seed: '1' }, 'seed'),
  bad('presence_penalty 2.1', { presence_penalty: 2.1 }, 'presence_penalty'),
  bad('frequency_penalty -2.1', { frequency_penalty: -2.1 }, 'frequency_penalty'),
  bad('repetition_penalty 0', { repetition_penalty: 0 }, 'repetition_penalty'),
  bad('top_logprobs 21', { logprobs: true, top_logprobs: 21 }, 'top_logprobs'),
  bad('top_logprobs without logprobs', { top_logprobs: 2 }, 'top_logprobs'),
  bad('logprobs 3 in a chat', { logprobs: 3 }, 'logprobs'),
  bad('a required tool, and none is there', { tool_choice: 'required' }, 'tool_choice'),
  bad('a named tool that is not there', named, 'tool_choice.function.name'),
  bad('an unknown choice of tools', { tool_choice: 'any' }, 'tool_choice'),
  bad('a tool without a function', { tools: [{ type: 'function' }] }, 'tools.0.function'),
  bad('two tools of one name', { tools: [tool, tool] }, 'tools'),
  bad('129 tools', { tools: Array(129).fill(tool) }, 'tools'),
  bad('a required tool in a form', inForm, 'tool_choice'),
  unsupported('a named function', { function_call: { name: 'f' }, functions: [{ name: 'f' }] }),
  bad(
    'a json_schema without a schema',
    { response_format: { type: 'json_schema', json_schema: {} } },
    'response_format.json_schema.schema',
  ),
  bad(
    'a response_format without its schema',
    { response_format: { type: 'json_schema' } },
    'response_format.json_schema',
  ),
  bad(
    'a schema twice',
    { response_format: { type: 'json_schema', json_schema: { schema: {} }, schema: {} } },
    'response_format.schema',
  ),
  bad(
    'a key that response_format does not know',
    { response_format: { type: 'json_object', pattern: 'a' } },
    'response_format',
  ),
  bad(
    'a key that json_schema does not know',
    { response_format: { type: 'json_schema', json_schema: { schema: {}, regex: 'a' } } },
    'response_format.json_schema',
  ),
  bad('a response_format of no type', { response_format: { type: 'xml' } }, 'response_format.type'),
  bad('guided_json as a number', { guided_json: 1 }, 'guided_json'),
  bad('guided_choice without choices', { guided_choice: [] }, 'guided_choice'),
  bad('two forms of an answer', { guided_regex: 'a+', guided_json: {} }, 'guided_regex'),
  bad(
    'structured_outputs of another word',
    { structured_outputs: { lark: 'start: "a"' } },
    'structured_outputs',
  ),
  unsupported('chat_template', { chat_template: '{{ 1 }}' }),
  bad(
    'an unknown template variable',
    { chat_template_kwargs: { reasoning_mode: 'x' } },
    'chat_template_kwargs.reasoning_mode',
    'unsupported_parameter',
  ),
  bad('enable_thinking "no"', { enable_thinking: 'no' }, 'enable_thinking'),
  bad('an unknown effort', { reasoning_effort: 'enormous' }, 'reasoning_effort'),
  bad(
    'a budget of the thought',
    { thinking: { type: 'enabled', budget_tokens: 5 } },
    'thinking.budget_tokens',
    'unsupported_parameter',
  ),
  bad('no generation prompt', { add_generation_prompt: false }, 'add_generation_prompt'),
  bad('nothing to continue', { continue_final_message: true }, 'messages'),
  unsupported('echo in a chat', { echo: true }),
  unsupported('special tokens on top of the template', { add_special_tokens: true }),
  bad('prompt_logprobs 21', { prompt_logprobs: 21 }, 'prompt_logprobs'),
  bad('prompt_logprobs in a stream', { prompt_logprobs: 1, stream: true }, 'prompt_logprobs'),
  unsupported('cache_salt', { cache_salt: 'x' }),
  unsupported('store', { store: true }),
  bad(
    'stream_options without stream',
    { stream_options: { include_usage: true } },
    'stream_options',
  ),
  bad('stream "yes"', { stream: 'yes' }, 'stream'),
  bad(
    'a prompt over the context',
    { messages: [{ role: 'user', content: 'ab '.repeat(60_000) }] },
    'messages',
    'context_length_exceeded',
  ),
  bad('scale "x"', { adapter: { id: 'safety-r1', scale: 'x' } }, 'adapter.scale'),
  bad('scale 1e9', { adapter: { id: 'safety-r1', scale: 1e9 } }, 'adapter.scale'),
  bad('scale -1e9', { adapter: { id: 'safety-r1', scale: -1e9 } }, 'adapter.scale'),
  {
    name: 'scale NaN in the query',
    path: `${chat}?adapter=safety-r1:NaN`,
    status: 400,
    code: 'invalid_value',
    param: 'adapter',
  },
  {
    name: 'CRLF in the query',
    path: `${chat}?adapter=a%0d%0aX:1`,
    status: 400,
    code: 'invalid_value',
    param: 'adapter',
  },
  // Whoever means an adapter must not get the base.
  ...['adaptor', 'adapters', 'Adapter', 'adapter_id', 'lora', 'lora_name', 'adapter[]'].map(
    (name) => ({
      name: `?${name}= in the query`,
      path: `${chat}?${encodeURIComponent(name)}=safety-r1`,
      status: 400,
      code: 'unsupported_parameter',
      param: name,
    }),
  ),
]

const completion = (
  name: string,
  fields: Record<string, unknown>,
  param: string,
  code = 'invalid_value',
): Row => ({
  name,
  path: completions,
  body: { model: 'tiny', prompt: 'Hi', ...fields },
  status: 400,
  code,
  param,
})

const otherRoutes: readonly Row[] = [
  completion('prompt missing', { prompt: undefined }, 'prompt'),
  completion('prompt {}', { prompt: {} }, 'prompt'),
  completion('prompt []', { prompt: [] }, 'prompt'),
  completion('prompt [[]]', { prompt: [[]] }, 'prompt.0'),
  completion('a token outside the vocabulary', { prompt: [1, 1000] }, 'prompt'),
  completion('a negative token', { prompt: [[-1]] }, 'prompt.0'),
  completion('half a token', { prompt: [1, 1.5] }, 'prompt'),
  completion('text among tokens', { prompt: [1, 'x'] }, 'prompt'),
  completion('129 prompts', { prompt: Array(129).fill('x') }, 'prompt'),
  completion('logprobs 21', { logprobs: 21 }, 'logprobs'),
  completion('suffix', { suffix: 'x' }, 'suffix', 'unsupported_parameter'),
  completion('echo "yes"', { echo: 'yes' }, 'echo'),
  completion('max_tokens 0 without echo', { max_tokens: 0 }, 'max_tokens'),
  completion(
    'more tokens than the context',
    { prompt: Array(513).fill(1) },
    'prompt',
    'context_length_exceeded',
  ),
  {
    name: 'tokenize without a text',
    path: '/tokenize',
    body: {},
    status: 400,
    code: 'invalid_value',
    param: 'prompt',
  },
  {
    name: 'tokenize with both',
    path: '/tokenize',
    body: { prompt: 'a', messages: [userMessage] },
    status: 400,
    code: 'invalid_value',
    param: 'prompt',
  },
  {
    name: 'detokenize "x"',
    path: '/detokenize',
    body: { tokens: 'x' },
    status: 400,
    code: 'invalid_value',
    param: 'tokens',
  },
  {
    name: 'detokenize an unknown id',
    path: '/detokenize',
    body: { tokens: [5000] },
    status: 400,
    code: 'invalid_value',
    param: 'tokens',
  },
  {
    name: 'tokenize for an unknown model',
    path: '/tokenize',
    body: { model: 'x', prompt: 'a' },
    status: 404,
    code: 'model_not_found',
    param: 'model',
  },
]

const bodyOf = ({ body, fields, init }: Row): RequestInit['body'] => {
  if (init?.method === 'GET') return null
  if (typeof body === 'string' || body instanceof Uint8Array) return body as string
  return JSON.stringify(body ?? { ...goodChat, ...fields })
}

describe('bad input', () => {
  const front = createFront()

  for (const row of [...http, ...chatFields, ...otherRoutes]) {
    it(`${row.name} → ${row.status} ${row.code}`, async () => {
      const headers = { 'content-type': 'application/json', ...(row.init?.headers as object) }
      const response = await front.request(row.path ?? chat, {
        method: 'POST',
        ...row.init,
        headers,
        body: bodyOf(row) ?? null,
      })
      const text = await response.text()
      assert.equal(response.status, row.status, text)
      assert.ok(text.length < 32_000)
      assert.doesNotMatch(text, /\/srv\/|node_modules|\.js:|\.ts:| {4}at /)
      assert.ok(response.headers.get('x-request-id'))
      const { error } = JSON.parse(text)
      assert.deepEqual(Object.keys(error).sort(), ['code', 'message', 'param', 'type'])
      if (row.code) assert.equal(error.code, row.code, error.message)
      if (row.param) assert.equal(error.param, row.param, error.message)

      const next = await front.post(chat, goodChat)
      assert.equal(next.status, 200)
      assert.equal(front.app.admission.numInFlight, 0)
    })
  }

  it('names every wrong key of logit_bias', async () => {
    const response = await front.post(chat, {
      ...goodChat,
      logit_bias: { a: 1, 5: 1, '-1': 1, 7: null },
    })
    const { error } = await readJson(response)
    assert.match(error.message, /wrong: "7", "a", "-1"$/)
  })

  it('405 says which methods there are', async () => {
    const response = await front.request('/v1/models', { method: 'PUT' })
    assert.equal(response.headers.get('allow'), 'GET, HEAD')
  })

  it('reaches the engine with no bad request', () => {
    const numGood = http.length + chatFields.length + otherRoutes.length
    assert.equal(front.engine.requests.length, numGood)
  })
})

describe('odd but good input', () => {
  const cases: Readonly<Record<string, Record<string, unknown>>> = {
    'NUL and control characters': {
      messages: [{ role: 'user', content: 'a\u0000\u001b[31m\r\nb' }],
    },
    'a lone surrogate': { messages: [{ role: 'user', content: 'a\ud800b' }] },
    'empty text': { messages: [{ role: 'user', content: '' }] },
    'special tokens as text': {
      messages: [{ role: 'user', content: '<｜Assistant｜></think><|eot_id|>' }],
    },
    'an empty model is the base': { model: '' },
    'unknown fields': { frobnicate: 1, constructor: { a: 1 } },
    'null for every optional field': {
      temperature: null,
      stop: null,
      n: null,
      seed: null,
      tools: null,
      stream: null,
      adapter: null,
    },
    'values that change nothing': {
      tools: [],
      tool_choice: 'none',
      response_format: { type: 'text' },
      best_of: 1,
      echo: false,
      store: false,
      priority: 0,
      chat_template_kwargs: {},
    },
    'notes to others': {
      user: 'u',
      metadata: { a: 'b' },
      service_tier: 'auto',
      reasoning_effort: 'low',
    },
    'tools that may go unused': {
      tools: [{ type: 'function', function: { name: 'f' } }],
      functions: [{ name: 'f' }],
    },
    'roles and parts': {
      messages: [
        { role: 'developer', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a' },
            { type: 'text', text: 'b' },
          ],
        },
        {
          role: 'assistant',
          content: 'c',
          reasoning: 'x',
          reasoning_content: 'x',
          tool_calls: null,
        },
        { role: 'user', content: 'd' },
      ],
    },
    'the largest seed': { seed: 2 ** 63 },
    'both limits, equal': { max_tokens: 5, max_completion_tokens: 5 },
  }
  for (const [name, fields] of Object.entries(cases)) {
    it(`${name} → 200`, async () => {
      const response = await createFront().post(chat, { ...goodChat, ...fields })
      assert.equal(response.status, 200, await response.text())
    })
  }

  it('__proto__ pollutes nothing', async () => {
    const front = createFront()
    const body =
      '{"model":"tiny","messages":[{"role":"user","content":"x","__proto__":{"a":1}}],"__proto__":{"polluted":true},"logit_bias":{"__proto__":1}}'
    assert.equal((await front.post(chat, body)).status, 200)
    assert.equal(({} as { polluted?: boolean }).polluted, undefined)
  })

  it('of duplicate keys the last wins', async () => {
    const front = createFront()
    await front.post(
      chat,
      '{"model":"nope","model":"tiny","messages":[{"role":"user","content":"x"}]}',
    )
    assert.equal(front.engine.requests.length, 1)
  })

  it('what the engine gets is text, well-formed, with developer as system', async () => {
    const front = createFront()
    await front.post(chat, {
      ...goodChat,
      messages: [
        { role: 'developer', content: 'x' },
        { role: 'user', content: 'a\ud800b' },
      ],
    })
    assert.deepEqual(front.engine.requests[0]?.prompt, {
      kind: 'messages',
      messages: [
        { role: 'system', content: 'x' },
        { role: 'user', content: 'a\uFFFDb' },
      ],
    })
  })

  it('unknown fields are logged by name, without their values', async () => {
    const front = createFront()
    await front.post(chat, { ...goodChat, frobnicate: 'secret' })
    const line = front.log.find(({ message }) => message === 'request')
    assert.deepEqual(line?.fields.unknownFields, ['frobnicate'])
    assert.doesNotMatch(JSON.stringify(front.log), /secret/)
  })

  it('other names in the query are logged beside unknown fields, without their values', async () => {
    const front = createFront()
    const response = await front.post(`${chat}?api-version=secret`, { ...goodChat, frobnicate: 1 })
    assert.equal(response.status, 200)
    const line = front.log.find(({ message }) => message === 'request')
    assert.deepEqual(line?.fields.unknownFields, ['frobnicate'])
    assert.deepEqual(line?.fields.unknownQuery, ['api-version'])
    assert.doesNotMatch(JSON.stringify(front.log), /secret/)
  })

  it('a request id with line breaks or escapes is replaced', async () => {
    const front = createFront()
    for (const id of ['a b', 'x'.repeat(129), '{"level":50}']) {
      const response = await front.request('/health/live', { headers: { 'x-request-id': id } })
      assert.match(response.headers.get('x-request-id') ?? '', /^req-[0-9a-f-]{36}$/)
    }
    const kept = await front.request('/health/live', { headers: { 'x-request-id': 'mine_1.a' } })
    assert.equal(kept.headers.get('x-request-id'), 'mine_1.a')
  })
})

describe('the engine’s own refusals', () => {
  it('while the model loads: 503 everywhere but live', async () => {
    const engine = createFakeEngine()
    engine.model = undefined
    engine.state = 'loading'
    const front = createFront({ engine })
    for (const path of ['/health/ready', '/health', '/v1/models', '/v1/adapters']) {
      const response = await front.request(path)
      assert.equal(response.status, 503, path)
      assert.equal((await readJson(response)).error.code, 'model_loading')
    }
    const answer = await front.post(chat, goodChat)
    assert.equal(answer.status, 503)
    assert.equal(answer.headers.get('retry-after'), '1')
    assert.equal((await front.request('/health/live')).status, 200)
  })

  it('not ready while the engine restarts or does not answer', async () => {
    const front = createFront()
    assert.equal((await front.request('/health/ready')).status, 200)
    for (const state of ['restarting', 'unresponsive'] as const) {
      front.engine.state = state
      const response = await front.request('/health/ready')
      assert.equal(response.status, 503)
      const { code, message } = (await readJson(response)).error
      assert.deepEqual([code, message.includes(state)], ['model_loading', true])
    }
  })

  it('an engine that throws is a 500 without detail, logged with its stack', async () => {
    const engine = createFakeEngine({
      // biome-ignore lint/correctness/useYield: it throws first
      script: async function* () {
        throw new Error('secret detail at /srv/x')
      },
    })
    const front = createFront({ engine })
    const response = await front.post(chat, goodChat)
    assert.equal(response.status, 500)
    const text = await response.text()
    assert.doesNotMatch(text, /secret|work/)
    assert.equal(JSON.parse(text).error.code, 'server_error')
    assert.ok(
      front.log.some(({ level, fields }) => level === 'error' && fields.err instanceof Error),
    )
    assert.equal(front.app.admission.numInFlight, 0)
  })
})
