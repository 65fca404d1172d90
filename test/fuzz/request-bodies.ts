// Bodies of requests: from the schemas of the routes, with fields of other servers, and off them.

import * as fc from 'fast-check'
import { chatSchema } from '../../server/http/request/chat-request.ts'
import { completionSchema } from '../../server/http/request/completion-request.ts'
import { mutatedJson, oddValue } from './mutations.ts'

export interface BodyRequest {
  readonly path: string
  readonly method: string
  readonly contentType: string
  readonly body: string
}

const foreign = (
  'tools tool_choice functions response_format structured_outputs guided_json grammar chat_template ' +
  'chat_template_kwargs documents add_generation_prompt continue_final_message suffix modalities ' +
  'best_of use_beam_search enable_thinking thinking think reasoning reasoning_effort format metadata ' +
  'thinking_budget max_new_tokens num_predict repeat_penalty do_sample priority user store keep_alive'
).split(' ')
const keys = [
  ...Object.keys(chatSchema.shape),
  ...Object.keys(completionSchema.shape),
  ...foreign,
  ...'role content text type name tool_calls reasoning reasoning_content prefix tokens id scale'.split(
    ' ',
  ),
]

const fitting = fc.constantFrom<unknown>(
  0,
  1,
  2,
  16,
  20,
  0.7,
  true,
  false,
  'none',
  'auto',
  'low',
  'safety-r1',
  'tiny:safety-r1',
  ['x'],
  'a',
  [1, 2, 3],
  { 5: 1 },
  { type: 'text' },
  { type: 'json_object' },
  { include_usage: true },
  ['a', 'b'],
  { role: 'user', content: 'x' },
  { id: 'terse', scale: 0.5 },
  [{ type: 'text', text: 'y' }],
)
const values = fc.oneof(fitting, oddValue)

/** Bodies that are answered, for a model of this name. */
export function goodBodies(model: string): Readonly<Record<string, readonly unknown[]>> {
  const user = { role: 'user', content: 'What is 2 + 3?' }
  const few = { model, max_tokens: 2 }
  return {
    '/v1/chat/completions': [
      { ...few, messages: [user] },
      { ...few, messages: [user], stream: true, stream_options: { include_usage: true } },
      {
        ...few,
        messages: [
          { role: 'system', content: [{ type: 'text', text: 'Be brief.' }] },
          user,
          { role: 'assistant', content: '<think>\nadd\n</think>\n\n5', reasoning: 'add' },
          user,
        ],
        n: 2,
        logprobs: true,
        top_logprobs: 3,
        stop: ['\n\n', '5'],
        temperature: 0.5,
        seed: 7,
        logit_bias: { 5: 1 },
      },
    ],
    '/v1/completions': [
      { ...few, prompt: 'two plus' },
      { ...few, prompt: [1, 2, 3], echo: true, logprobs: 2 },
      { ...few, prompt: ['a', 'b'], n: 2, stream: true, stop: '.' },
    ],
    '/tokenize': [
      { model, prompt: 'hello', return_token_strs: true },
      { model, messages: [user], add_generation_prompt: false },
    ],
    '/detokenize': [{ model, tokens: [1, 2, 3] }],
  }
}

const otherPaths = [
  '/v1/models',
  '/v1/adapters/a',
  '/v1/embeddings',
  '/',
  '/health/live',
  '/v1/models/x%00y',
]

export function bodyRequests(model: string): fc.Arbitrary<BodyRequest> {
  const goods = goodBodies(model)
  const toPath = Object.entries(goods).map(([path, bodies]) =>
    fc.record({
      path: fc.constantFrom(path, path, path, path, `${path}?adapter=safety-r1`, `${path}/`),
      method: fc.constant('POST'),
      contentType: fc.constantFrom(
        ...Array<string>(12).fill('application/json'),
        'application/json; charset=utf-8',
        'text/plain',
        '',
      ),
      body: mutatedJson(bodies, keys, values),
    }),
  )
  const [chat, completions, ...others] = toPath
  const elsewhere = fc.record({
    path: fc.constantFrom(...Object.keys(goods), ...otherPaths),
    method: fc.constantFrom('GET', 'PUT', 'DELETE', 'PATCH', 'POST', 'OPTIONS'),
    contentType: fc.constant('application/json'),
    body: fc.string({ unit: 'binary', maxLength: 40 }),
  })
  return fc.oneof(
    { weight: 6, arbitrary: chat! },
    { weight: 6, arbitrary: completions! },
    ...others.map((arbitrary) => ({ weight: 2, arbitrary })),
    { weight: 1, arbitrary: elsewhere },
  )
}
