// One chat request of k6, and how its answer is judged: by its reference, which is what the same adapter
// said to the same prompt when nothing else ran. k6 knows no event streams: it hands over the whole body
// once it has ended, so a stream is parsed after the fact. The time to the first token and between
// tokens come from the Node client beside it (runner/streams.mjs).

import { check } from 'k6'
import exec from 'k6/execution'
import http from 'k6/http'
import { Counter, Trend } from 'k6/metrics'

const baseUrl = __ENV.BASE_URL
const headers = {
  'content-type': 'application/json',
  ...(__ENV.API_KEY ? { authorization: `Bearer ${__ENV.API_KEY}` } : {}),
}
/**
 * {model, prompts, targets, answers: {target: [text of each prompt]}}; runner/references.mjs makes it. A
 * target without answers is replaced meanwhile: `byDigest` has those of each of its contents.
 */
const references = JSON.parse(open(__ENV.REFERENCES))
const namings = ['query', 'body', 'model']

const answered = new Counter('answered')
const refused = new Counter('refused')
const left = new Counter('left')
/** Neither answered nor refused, though the client stayed. */
const lost = new Counter('lost')
/** Answered by another adapter than was asked for, or with another text than its reference. */
const wrong = new Counter('wrong_adapter')
const answerMs = new Trend('answer_ms', true)
const refusedMs = new Trend('refused_ms', true)
const completionTokens = new Counter('completion_tokens')

/** A counter that nothing was added to is not in k6's summary, and its threshold holds. */
export const thresholds = {
  lost: ['count==0'],
  wrong_adapter: ['count==0'],
  checks: ['rate==1'],
}

/** What must hold where every request is to be answered. */
export const calmThresholds = {
  ...thresholds,
  refused: ['count==0'],
  dropped_iterations: ['count==0'],
}

/** An open model: requests come at their rate however slow the answers are. */
export function openArrivals(rate = Number(__ENV.RATE), duration = __ENV.DURATION) {
  return {
    executor: 'constant-arrival-rate',
    rate: Math.max(1, Math.round(rate * 10)),
    timeUnit: '10s',
    duration,
    preAllocatedVUs: Math.max(8, Math.ceil(rate * 4)),
    maxVUs: Math.max(32, Math.ceil(rate * 30)),
    gracefulStop: '60s',
  }
}

/** The base only: what a server without adapters may be asked too. */
export const askBase = () => ask({ target: 'none' })

/** Counted so that every target meets every prompt, every naming, and both forms of answer. */
export function askInTurn(options = {}) {
  const turn = exec.scenario.iterationInTest
  const { targets } = references
  const round = Math.floor(turn / targets.length)
  return ask({
    target: targets[turn % targets.length],
    naming: namings[Math.floor(round / 2) % namings.length],
    promptIndex: round % references.prompts.length,
    isStream: (turn + round) % 2 === 0,
    ...options,
  })
}

/**
 * Asks, and counts what became of it. With `leaveAfterMs` the client closes its connection then unless
 * the answer was there before; such a request is never lost.
 */
function ask({
  target,
  naming = 'query',
  promptIndex = exec.scenario.iterationInTest % references.prompts.length,
  isStream = exec.scenario.iterationInTest % 2 === 0,
  leaveAfterMs = 0,
}) {
  const { query, fields } = nameTarget(target, naming)
  const body = {
    model: references.model,
    messages: [{ role: 'user', content: references.prompts[promptIndex] }],
    max_tokens: references.maxTokens[promptIndex],
    temperature: 0,
    ...(references.ignoreEos ? { ignore_eos: true } : {}),
    ...(isStream ? { stream: true, stream_options: { include_usage: true } } : {}),
    ...fields,
  }
  const response = http.post(`${baseUrl}/v1/chat/completions${query}`, JSON.stringify(body), {
    headers,
    timeout: leaveAfterMs > 0 ? leaveAfterMs : '120s',
    tags: { target, stream: String(isStream) },
    // 429 is no failure of the server.
    responseCallback: http.expectedStatuses(200, 429),
  })
  if (leaveAfterMs > 0 && response.status === 0) return left.add(1)
  if (response.status === 429) return judgeRefusal(response)
  const answer = response.status === 200 ? read(response, isStream) : undefined
  if (answer === undefined) {
    console.warn(`lost: status ${response.status}, ${response.error || 'an answer cut short'}`)
    return lost.add(1)
  }
  judge({ response, answer, target, promptIndex })
}

function judgeRefusal(response) {
  refused.add(1)
  refusedMs.add(response.timings.duration)
  check(response, {
    '429 says when to come back': () => Number(response.headers['Retry-After']) > 0,
    '429 has its code': () => response.json('error.code') === 'rate_limit_exceeded',
  })
}

function judge({ response, answer, target, promptIndex }) {
  answered.add(1)
  answerMs.add(response.timings.duration)
  completionTokens.add(answer.usage?.completion_tokens ?? 0)
  const { text, applied } = answer
  const isRight =
    text === textsOf(target, applied)?.[promptIndex] &&
    isTarget(target, applied) &&
    response.headers['X-Adapter'] === headerOf(applied)
  if (!isRight) {
    wrong.add(1)
    console.warn(`wrong: asked for ${target}, prompt ${promptIndex}; got ${headerOf(applied)}`)
  }
  check(answer, {
    'finish_reason is stop or length': ({ finish }) => finish === 'stop' || finish === 'length',
    'usage counts the answer': ({ usage }) => usage?.completion_tokens > 0,
  })
}

/** Every way a request may name one adapter; `none` is the base. */
function nameTarget(id, naming) {
  if (naming === 'query' || id === 'none') {
    return { query: `?adapter=${encodeURIComponent(id)}`, fields: {} }
  }
  if (naming === 'model') return { query: '', fields: { model: `${references.model}:${id}` } }
  return { query: '', fields: { adapter: id } }
}

/** References of what was really applied. */
function textsOf(target, applied) {
  const fixed = references.answers[target]
  if (fixed !== undefined) return fixed
  const shown = applied?.[0]?.digest ?? 'none'
  const digest = Object.keys(references.byDigest).find((each) => each.startsWith(shown))
  return references.byDigest[digest]
}

const isTarget = (id, applied) =>
  id === 'none' ? applied?.length === 0 : applied?.length === 1 && applied[0].id === id

const headerOf = (applied) =>
  applied?.length === 0
    ? 'none'
    : applied?.map(({ id, digest, scale }) => `${id}@${digest};scale=${scale}`).join(', ')

/** Undefined when the answer is no JSON, tells of an error, or is a stream that was cut. */
function read(response, isStream) {
  try {
    return isStream ? readStream(response.body) : readBody(response)
  } catch {
    return undefined
  }
}

function readBody(response) {
  const { choices, usage, adapter } = response.json()
  const { message, finish_reason: finish } = choices[0]
  return {
    text: `${message.reasoning ?? ''}|${message.content ?? ''}`,
    finish,
    usage,
    applied: adapter,
  }
}

function readStream(body) {
  const events = body.split('\n\n').filter((event) => event.startsWith('data: '))
  if (events.pop() !== 'data: [DONE]') return undefined
  const answer = { text: '', finish: null, usage: null, applied: undefined }
  let thought = ''
  let content = ''
  for (const event of events) {
    const chunk = JSON.parse(event.slice('data: '.length))
    if (chunk.error) return undefined
    answer.usage = chunk.usage ?? answer.usage
    answer.applied = chunk.adapter ?? answer.applied
    for (const choice of chunk.choices) {
      thought += choice.delta.reasoning ?? ''
      content += choice.delta.content ?? ''
      answer.finish = choice.finish_reason ?? answer.finish
    }
  }
  return { ...answer, text: `${thought}|${content}` }
}
