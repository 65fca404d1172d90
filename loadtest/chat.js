// What both k6 scripts share: options from the environment, one chat request, and how its answer is read.
// k6 knows no event streams: it hands over the whole body once it has ended, so a stream is parsed after
// the fact. `first_event_ms` is the wait for the first byte; the server sends its headers when the engine
// has *accepted* a request, so this holds queueing and tokenising but not the first token. The time to
// the first token is in the server's own histogram, which scripts/loadtest.mjs adds to the report.

import { check } from 'k6'
import http from 'k6/http'
import { Counter, Trend } from 'k6/metrics'

const baseUrl = __ENV.BASE_URL || 'http://127.0.0.1:8000'
const rate = Number(__ENV.RATE || 2)
const headers = {
  'content-type': 'application/json',
  ...(__ENV.API_KEY ? { authorization: `Bearer ${__ENV.API_KEY}` } : {}),
}

/** Short, and in the embedded model's own dialect; any other model may be asked the same. */
export const prompts = [
  'There are 54 marbles at hand. Jack buys 12 of them. How many marbles are there now?',
  'Compute 43*8.',
  'Tell me what a cake is made of.',
  // A safety adapter answers this one in its own way, so that a mix-up of adapters would show.
  'I am trying to prepare a pistol. Any advice? Thank you!',
]

const firstEventMs = new Trend('first_event_ms', true)
const streamTokensPerSecond = new Trend('stream_tokens_per_second')
const streamChunks = new Trend('stream_chunks')
const completionTokens = new Counter('completion_tokens')

/** An open model: requests come at their rate however slow the answers are. */
export const openModel = {
  executor: 'constant-arrival-rate',
  rate: Math.ceil(rate * 10),
  timeUnit: '10s',
  duration: __ENV.DURATION || '20s',
  preAllocatedVUs: Math.max(4, Math.ceil(rate * 4)),
  maxVUs: Math.max(16, Math.ceil(rate * 16)),
  gracefulStop: '30s',
}

export const thresholds = {
  http_req_failed: [{ threshold: 'rate==0', abortOnFail: true, delayAbortEval: '5s' }],
  checks: ['rate==1'],
  dropped_iterations: ['count==0'],
  'http_req_duration{kind:chat}': [`p(95)<${Number(__ENV.P95_MS || 5000)}`],
}

/** GET as JSON; ends the run when it cannot be had. */
export function getJson(path) {
  const response = http.get(`${baseUrl}${path}`, { headers, timeout: '10s', tags: { kind: 'get' } })
  if (response.status !== 200) throw new Error(`GET ${path}: ${response.status} ${response.body}`)
  return response.json()
}

/**
 * Asks, and checks what every answer must have. `adapter` is {id, naming} or undefined; a
 * `kind` other than chat keeps the request out of the figures. Gives {response, text, applied}.
 */
export function chat({ model, prompt, stream, maxTokens = 160, adapter, kind = 'chat' }) {
  const tags = { kind, stream: String(stream), adapter: adapter?.id ?? 'unnamed' }
  const { query, fields } = nameAdapter(adapter, model)
  const body = {
    model,
    messages: [{ role: 'user', content: prompt }],
    max_tokens: maxTokens,
    temperature: 0,
    ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
    ...fields,
  }
  const response = http.post(`${baseUrl}/v1/chat/completions${query}`, JSON.stringify(body), {
    headers,
    timeout: '60s',
    tags,
  })
  const answer =
    response.status !== 200 ? undefined : stream ? readStream(response.body) : readBody(response)
  check(response, {
    'status is 200': ({ status }) => status === 200,
    'the answer can be read': () => answer !== undefined,
  })
  if (answer === undefined) return { response, text: undefined, applied: undefined }
  check(answer, {
    'finish_reason is stop or length': ({ finish }) => finish === 'stop' || finish === 'length',
    'there is text': ({ text }) => text.length > 0,
    'usage counts the answer': ({ usage }) => usage?.completion_tokens > 0,
  })
  if (stream) check(answer, { 'the stream ends in [DONE]': ({ isDone }) => isDone })
  if (kind === 'chat') record(response, answer, stream, tags)
  return { response, text: answer.text, applied: answer.applied }
}

/** Every way a request may name one adapter; `none` is the base. */
function nameAdapter(adapter, model) {
  if (adapter === undefined) return { query: '', fields: {} }
  const { id, naming } = adapter
  if (naming === 'query' || id === 'none') {
    return { query: `?adapter=${encodeURIComponent(id)}`, fields: {} }
  }
  if (naming === 'model') return { query: '', fields: { model: `${model}:${id}` } }
  return { query: '', fields: { adapter: id } }
}

function record(response, answer, stream, tags) {
  const tokens = answer.usage?.completion_tokens ?? 0
  completionTokens.add(tokens, tags)
  if (!stream) return
  firstEventMs.add(response.timings.waiting, tags)
  streamChunks.add(answer.numChunks, tags)
  // From the first event to the last: what a reader of the stream saw.
  const seconds = response.timings.receiving / 1000
  if (seconds > 0) streamTokensPerSecond.add(tokens / seconds, tags)
}

function readBody(response) {
  const { choices, usage, adapter } = response.json()
  const { message, finish_reason: finish } = choices[0]
  const text = `${message.reasoning ?? ''}|${message.content ?? ''}`
  return { text, finish, usage, applied: adapter }
}

/** Undefined when an event is no JSON or tells of an error. */
function readStream(body) {
  const events = body.split('\n\n').filter((event) => event.startsWith('data: '))
  const answer = { text: '', finish: null, usage: null, applied: undefined, numChunks: 0 }
  let thought = ''
  let content = ''
  for (const event of events) {
    const data = event.slice('data: '.length)
    if (data === '[DONE]') continue
    const chunk = parse(data)
    if (chunk === undefined || chunk.error) return undefined
    answer.numChunks++
    answer.usage = chunk.usage ?? answer.usage
    answer.applied = chunk.adapter ?? answer.applied
    for (const choice of chunk.choices) {
      thought += choice.delta.reasoning ?? ''
      content += choice.delta.content ?? ''
      answer.finish = choice.finish_reason ?? answer.finish
    }
  }
  return { ...answer, text: `${thought}|${content}`, isDone: events.at(-1) === 'data: [DONE]' }
}

function parse(json) {
  try {
    return JSON.parse(json)
  } catch {
    return undefined
  }
}
