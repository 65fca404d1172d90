// More adapters than a real vLLM has places for (--max-loras 1): in turn and at once, and more requests than the
// front takes. None is answered with another's adapter.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { prompts } from '../real/prompts.ts'
import type { RealServer } from '../support/real-server.ts'
import { type Answer, ask, compare, small, startFront, startOwn, stream, until } from './place.ts'

const id = 'smollm2-safety-r1'
const adapters = [`${id}:1`, `${id}:2`, `${id}-paper:1`]
const content = prompts[0]!
const maxTokens = 16

describe('a real vLLM with one place for adapters', () => {
  let front: RealServer
  const references = new Map<string, Answer>()

  before(async () => {
    const own = await startOwn()
    for (const adapter of adapters) {
      references.set(adapter, await ask(own, { content, adapter, maxTokens }))
    }
    await own.stop()
    // Fronts of other tests leave their adapters registered.
    await small.start()
    const flags = ['--max-adapter-rank', '1', '--max-batch', '4', '--max-queue', '4']
    front = await startFront([small], flags)
  })
  after(async () => {
    await front?.stop()
  })

  it('the references differ, so that a mixture shows', () => {
    const [first, second, third] = adapters.map((adapter) => references.get(adapter)!.tokens)
    for (const [x, y] of [
      [first, second],
      [first, third],
      [second, third],
    ]) {
      const differs = x!.some(({ token, logprob }, i) => {
        const other = y![i]
        return other?.token !== token || Math.abs(other.logprob - logprob) > 0.2
      })
      assert.ok(differs)
    }
  })

  it('three in turn, twice: each is right, and one at a time is registered', async () => {
    for (const adapter of [...adapters, ...adapters]) {
      const { tokens } = await ask(front, { content, adapter, maxTokens })
      const mean = compare(references.get(adapter)!.tokens, tokens, adapter)
      assert.ok(mean < 0.1, `${adapter}: ${mean}`)
      assert.equal((await small.names()).adapters.length, 1)
    }
  })

  it('six at once wait for their place: all are right, and never two are registered', async () => {
    const all = [...adapters, ...adapters].map((adapter) => ({
      adapter,
      begun: stream(front, { content, adapter, maxTokens }),
    }))
    let most = 0
    let isOver = false
    const watch = until(600_000, 'end of all', async () => {
      most = Math.max(most, (await small.names()).adapters.length)
      return isOver
    })
    for (const { adapter, begun } of all) {
      const { status, errors, tokens } = await begun.ended
      assert.deepEqual([status, errors], [200, []])
      const mean = compare(references.get(adapter)!.tokens, tokens, adapter)
      assert.ok(mean < 0.1, `${adapter}: ${mean}`)
    }
    isOver = true
    await watch
    assert.equal(most, 1)
  })

  it('out of places: who finds none gets 429 with Retry-After, the others are right', async (t) => {
    const all = Array.from({ length: 24 }, (_, i) => {
      const adapter = adapters[i % adapters.length]!
      return { adapter, begun: stream(front, { content, adapter, maxTokens }) }
    })
    let numRefused = 0
    for (const { adapter, begun } of all) {
      const { status, errors, retryAfter, tokens } = await begun.ended
      if (status === 200) {
        assert.deepEqual(errors, [])
        compare(references.get(adapter)!.tokens, tokens, adapter)
        continue
      }
      assert.equal(status, 429)
      assert.ok(Number(retryAfter) >= 1, `${retryAfter}`)
      numRefused++
    }
    assert.ok(numRefused > 0 && numRefused < all.length, `${numRefused}`)
    t.diagnostic(`${numRefused} of ${all.length} refused`)
  })
})
