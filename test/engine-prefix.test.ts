// Beginnings that were computed before are taken over, never across adapters, and change no token.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createPrefixCache } from '../server/engine/prefix-cache.ts'
import { createRandomNumbers } from './support/random-numbers.ts'
import { createRequest, createTestLoop, numbered, textOf } from './support/scripted-model.ts'

const saved = (log: string[], name: string, bytes: number) => () => {
  log.push(`save ${name}`)
  return { name, bytes, release: () => void log.push(`release ${name}`) }
}

describe('the prefix cache', () => {
  it('finds the longest common beginning of the same key only', () => {
    const cache = createPrefixCache({ maxBytes: 100 })
    cache.add('x', [1, 2, 3, 4], 4, saved([], 'a', 4))
    cache.add('x', [1, 2, 9], 3, saved([], 'b', 3))
    cache.add('y', [1, 2, 3, 4, 5], 5, saved([], 'c', 5))
    assert.equal(cache.find('x', [1, 2, 3, 7])?.length, 3)
    assert.equal(cache.find('x', [1, 2, 9, 9])?.length, 3)
    assert.equal(cache.find('x', [5])?.length, undefined)
    assert.equal(cache.find('z', [1, 2]), null)
  })

  it('keeps one entry where one covers the other', () => {
    const log: string[] = []
    const cache = createPrefixCache({ maxBytes: 100 })
    cache.add('x', [1, 2], 2, saved(log, 'short', 2))
    cache.add('x', [1, 2, 3], 3, saved(log, 'long', 3))
    cache.add('x', [1, 2, 3], 3, saved(log, 'again', 3))
    cache.add('x', [1], 1, saved(log, 'shorter', 1))
    assert.deepEqual(log, ['save short', 'release short', 'save long'])
    assert.equal(cache.bytes, 3)
  })

  it('lets the least recently used go, and never holds more than its bytes', () => {
    const log: string[] = []
    const cache = createPrefixCache({ maxBytes: 10 })
    cache.add('x', [1, 1], 4, saved(log, 'a', 4))
    cache.add('x', [2, 2], 4, saved(log, 'b', 4))
    cache.find('x', [1, 1])
    cache.add('x', [3, 3], 4, saved(log, 'c', 4))
    cache.add('x', [4, 4], 11, saved(log, 'too large', 11))
    assert.deepEqual(log, ['save a', 'save b', 'release b', 'save c'])
    assert.equal(cache.bytes, 8)
    cache.clear()
    assert.equal(cache.bytes, 0)
  })
})

const cachedTokens = (events: readonly { kind: string }[]) =>
  (events.at(-1) as { cachedTokens?: number }).cachedTokens

describe('the loop with a prefix cache', () => {
  const long = 'once upon a time there was a server'

  it('takes over a finished prompt, and counts what it took', async () => {
    const world = createTestLoop({ prefixBytes: 1000 })
    const prompt = { kind: 'text', text: long } as const
    world.submit(createRequest({ id: 'a', prompt, maxTokens: 5 }))
    const first = await world.ended('a')
    world.submit(createRequest({ id: 'b', prompt, maxTokens: 5 }))
    const second = await world.ended('b')
    assert.equal(cachedTokens(first), 0)
    // The last two tokens are computed again: one gives the logits, and a lone one would round apart.
    assert.equal(cachedTokens(second), long.length - 2)
    assert.equal(textOf(second), textOf(first))
  })

  it('computes the prompt of several choices once', async () => {
    const prompt = { kind: 'text', text: long } as const
    let computed = 0
    const world = createTestLoop({
      wrap: (runner) => ({
        ...runner,
        prefill: (input) => {
          computed += input.tokens.length
          return runner.prefill(input)
        },
      }),
    })
    world.submit(createRequest({ id: 'a', prompt, n: 3, maxTokens: 4 }))
    await world.ended('a')
    assert.equal(computed, long.length + 2 * 2)
  })

  it('shares nothing between adapters or strengths', async () => {
    const prompt = { kind: 'text', text: long } as const
    const world = createTestLoop({ prefixBytes: 1000 })
    const kinds = [
      [],
      [{ component: numbered(1), scale: 1 }],
      [{ component: numbered(1), scale: 0.5 }],
      [{ component: numbered(2), scale: 1 }],
    ]
    for (const [i, components] of kinds.entries()) {
      world.submit(createRequest({ id: `r${i}`, prompt }), { components })
      assert.equal(cachedTokens(await world.ended(`r${i}`)), 0)
    }
  })

  it('changes no token, whatever is asked in whatever company', async () => {
    // Prompts that begin alike in many ways; the scripted model's logits depend on all that a row
    // holds, so a wrong or missing position would show in the text.
    const texts = async (prefixBytes: number) => {
      const random = createRandomNumbers(5)
      const world = createTestLoop({ prefixBytes, rows: 3 })
      const ids: string[] = []
      for (let i = 0; i < 60; i++) {
        const id = `r${i}`
        const turn = 'abc'[Math.floor(random() * 3)] ?? 'a'
        const text = long.slice(0, 9 + Math.floor(random() * 20)) + turn.repeat(i % 7)
        const components = random() < 0.5 ? [] : [{ component: numbered(1), scale: 1 }]
        const n = 1 + Math.floor(random() * 2)
        const request = { id, prompt: { kind: 'text', text }, maxTokens: 6, n } as const
        world.submit(createRequest(request), { components })
        ids.push(id)
        if (random() < 0.4) await world.ended(id)
      }
      const all = []
      for (const id of ids) {
        const events = await world.ended(id)
        all.push(textOf(events), textOf(events, { index: 1 }))
      }
      return all
    }
    assert.deepEqual(await texts(300), await texts(0))
  })
})
