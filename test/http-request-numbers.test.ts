// Every number of a request at its extremes: refused with a 400, or taken so that a token can be
// sampled. Nothing in between.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ServerError } from '../server/errors.ts'
import { parseChat } from '../server/http/request/chat-request.ts'
import { parseCompletion } from '../server/http/request/completion-request.ts'
import { sample } from '../server/sampling/sampler.ts'
import { createFakeEngine } from './support/fake-engine.ts'
import { goodChat } from './support/front.ts'
import { createRandomNumbers, normal } from './support/random-numbers.ts'

const model = createFakeEngine().model!
const random = createRandomNumbers(11)
const vocabSize = 64

const extremes = [
  ...[5e-324, 1e-323, 2.2e-308, 2.3e-308, 1e-45, 1.4e-45, 1e-38, 1e-30, 1e-7, 0.01, 0.1],
  ...[0, 0.5, 1, 1 + 2 ** -52, 2, 10, 16, 20, 100, 2 ** 31, 2 ** 53, 2 ** 63, 2 ** 64, 1e21],
  ...[3.4e38, 1e300, Number.MAX_VALUE],
].flatMap((value) => [value, -value])

const fields = [
  'temperature',
  'top_p',
  'top_k',
  'min_p',
  'presence_penalty',
  'frequency_penalty',
  'repetition_penalty',
  'min_tokens',
  'max_tokens',
  'max_completion_tokens',
  'seed',
  'n',
  'top_logprobs',
  'prompt_logprobs',
]

const logits = [1, 1e-30, 100, 1e30].map((size) =>
  Float32Array.from({ length: vocabSize }, () => size * normal(random)),
)

/** Parses as a client's body, and samples. */
function tryRequest(parse: typeof parseChat | typeof parseCompletion, body: object): void {
  try {
    const { requests } = parse(JSON.parse(JSON.stringify(body)), model)
    for (const { sampling } of requests) {
      for (const values of Object.values(sampling)) {
        if (typeof values === 'number') assert.ok(Number.isFinite(values), JSON.stringify(body))
      }
      for (const row of logits) {
        const token = sample({
          logits: row,
          blockMax: null,
          params: sampling,
          outputCounts: new Map([[3, 2]]),
          promptTokens: new Set([1, 2, 3]),
          forbidden: [],
          uniform: random,
        })
        assert.ok(Number.isInteger(token) && token >= 0 && token < vocabSize, JSON.stringify(body))
      }
    }
  } catch (error) {
    assert.ok(error instanceof ServerError, `${JSON.stringify(body)}: ${(error as Error).stack}`)
    assert.equal(error.status, 400)
  }
}

describe('a number of a request', () => {
  for (const field of fields) {
    it(`${field} is refused or works at every extreme`, () => {
      for (const value of extremes) {
        const logprobs = field === 'top_logprobs' ? { logprobs: true } : {}
        tryRequest(parseChat, { ...goodChat, ...logprobs, [field]: value })
        tryRequest(parseCompletion, { model: 'tiny', prompt: 'Hi', [field]: value })
      }
    })
  }

  it('logit_bias and lists of ids are refused or work at every extreme', () => {
    for (const value of extremes) {
      tryRequest(parseChat, { ...goodChat, logit_bias: { 3: value } })
      tryRequest(parseChat, { ...goodChat, logit_bias: { [value]: 1 } })
      tryRequest(parseChat, { ...goodChat, stop_token_ids: [value] })
      tryRequest(parseCompletion, { model: 'tiny', prompt: [value] })
    }
  })

  it('random ones together are refused or work', () => {
    const ranges: Record<string, readonly number[]> = {
      temperature: [5e-324, 1e-300, 0, 0.7, 2],
      top_p: [5e-324, 1e-300, 0.5, 1],
      top_k: [-1, 0, 1, 2 ** 31],
      min_p: [0, 5e-324, 1e-300, 0.5, 1],
      presence_penalty: [-2, -5e-324, 0, 2],
      frequency_penalty: [-2, 5e-324, 2],
      repetition_penalty: [5e-324, 0.01, 1, 10],
    }
    for (let round = 0; round < 2000; round++) {
      const chosen = Object.entries(ranges)
        .filter(() => random() < 0.6)
        .map(([name, values]) => [name, values[Math.floor(random() * values.length)]])
      tryRequest(parseChat, { ...goodChat, ...Object.fromEntries(chosen) })
    }
  })

  it('a repetition_penalty of 5e-324 names its bounds', () => {
    assert.throws(() => parseChat({ ...goodChat, repetition_penalty: 5e-324 }, model), {
      code: 'invalid_value',
      message: /repetition_penalty must be ≥ 0\.01/,
    })
  })
})
