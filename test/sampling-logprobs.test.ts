// Log-probabilities as clients see them: of the model's own distribution.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { logprobsOf } from '../server/sampling/logprobs.ts'
import { createRandomNumbers, normal } from './support/random-numbers.ts'
import { chaotic, createRequest, createTestSequence } from './support/scripted-model.ts'

describe('log-probabilities', () => {
  it('are the logarithms of the softmax', () => {
    const { sampled, top } = logprobsOf(Float32Array.from([0.5, 0.25, 0.25].map(Math.log)), 2, 2)
    assert.equal(sampled.id, 2)
    assert.ok(Math.abs(sampled.logprob - Math.log(0.25)) < 1e-6)
    assert.ok(Math.abs((top[0]?.logprob ?? 0) - Math.log(0.5)) < 1e-6)
  })

  it('list the best tokens in order, ties by the lower id, as a full sort does', () => {
    const random = createRandomNumbers(5)
    for (let round = 0; round < 200; round++) {
      const logits = Float32Array.from({ length: 40 }, () => Math.round(4 * normal(random)))
      const count = round % 21
      const want = [...logits.keys()]
        .sort((x, y) => (logits[y] as number) - (logits[x] as number) || x - y)
        .slice(0, count)
      assert.deepEqual(
        logprobsOf(logits, 0, count).top.map(({ id }) => id),
        want,
      )
    }
  })

  it('of all tokens sum to one, also for logits that overflow exp', () => {
    for (const shift of [0, 1e4, -1e4]) {
      const logits = Float32Array.from({ length: 30 }, (_, id) => shift + (id % 7))
      const { top } = logprobsOf(logits, 0, 30)
      const sum = top.reduce((total, { logprob }) => total + Math.exp(logprob), 0)
      assert.equal(top.length, 30)
      assert.ok(Math.abs(sum - 1) < 1e-6, `sum ${sum}`)
    }
  })

  it('are the same whatever the penalties, the bias and the temperature', () => {
    const logits = chaotic([1, 2, 3], [])
    const of = (sampling: object) => {
      const request = createRequest({ topLogprobs: 3, sampling })
      const [event] = createTestSequence(request).accept(logits.slice())
      assert.ok(event?.kind === 'delta' && event.logprobs)
      return event.logprobs[0]?.top
    }
    const plain = of({})
    assert.equal(plain?.length, 3)
    assert.deepEqual(of({ temperature: 1.7, topP: 0.2, logitBias: [[5, 90]] }), plain)
  })

  it('name the sampled token even where it is not among the best', () => {
    const request = createRequest({ topLogprobs: 1, sampling: { logitBias: [[65, 100]] } })
    const [event] = createTestSequence(request).accept(chaotic([1], []))
    assert.ok(event?.kind === 'delta')
    const [entry] = event.logprobs ?? []
    assert.equal(entry?.token, 'A')
    assert.deepEqual(entry?.bytes, [65])
    assert.notEqual(entry?.top[0]?.id, 65)
    assert.ok((entry?.top[0]?.logprob ?? 0) > (entry?.logprob ?? 0))
  })

  it('are absent where nobody asked, and the sampled one comes alone where 0 were asked', () => {
    const [without] = createTestSequence(createRequest()).accept(chaotic([1], []))
    assert.ok(without?.kind === 'delta')
    assert.equal(without.logprobs, null)
    const [alone] = createTestSequence(createRequest({ topLogprobs: 0 })).accept(chaotic([1], []))
    assert.ok(alone?.kind === 'delta')
    assert.deepEqual(alone.logprobs?.[0]?.top, [])
  })
})
