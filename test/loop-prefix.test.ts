// Beginnings that were computed before are taken over, never across adapters, and change no token.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { blockTokens, createPrefixCache } from '../server/loop/prefix-cache.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import {
  createRequest,
  createTestLoop,
  numbered,
  replying,
  textOf,
} from './support/scripted-model.ts'

const numbers = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i)

/** Keeps all whole blocks of a sequence; every block takes 16 bytes and logs its coming and going. */
function keep(
  cache: ReturnType<typeof createPrefixCache>,
  root: string,
  tokens: readonly number[],
  log: string[] = [],
): void {
  let position: ReturnType<typeof cache.rootPosition> | null = cache.rootPosition(root)
  while (position !== null && position.length + blockTokens <= tokens.length) {
    const block = tokens.slice(position.length, position.length + blockTokens)
    const name = `${block[0]}`
    position = cache.add(position, block, 16, () => {
      log.push(`save ${name}`)
      return { bytes: 16, release: () => void log.push(`release ${name}`) }
    })
  }
}

describe('the prefix cache', () => {
  it('finds the longest common beginning of whole blocks, under the same root only', () => {
    const cache = createPrefixCache({ maxBytes: 1000 })
    keep(cache, 'x', numbers(0, 64))
    keep(cache, 'x', [...numbers(0, 32), ...numbers(100, 16)])
    keep(cache, 'y', numbers(0, 80))
    const found = (root: string, tokens: readonly number[]) =>
      cache.find(root, tokens).position.length
    assert.equal(found('x', numbers(0, 63)), 48)
    assert.equal(found('x', [...numbers(0, 32), ...numbers(100, 20)]), 48)
    assert.equal(found('x', numbers(1, 64)), 0)
    assert.equal(found('x', numbers(0, 100)), 64)
    assert.equal(found('y', numbers(0, 100)), 80)
    assert.equal(found('z', numbers(0, 100)), 0)
  })

  it('keeps a beginning that several have once', () => {
    const log: string[] = []
    const cache = createPrefixCache({ maxBytes: 1000 })
    keep(cache, 'x', numbers(0, 32), log)
    keep(cache, 'x', [...numbers(0, 16), ...numbers(50, 16)], log)
    keep(cache, 'x', numbers(0, 32), log)
    assert.deepEqual(log, ['save 0', 'save 16', 'save 50'])
    assert.equal(cache.bytes, 48)
  })

  it('lets the least recently used end go first, and a beginning never before what follows it', () => {
    const log: string[] = []
    const cache = createPrefixCache({ maxBytes: 64 })
    keep(cache, 'x', numbers(0, 32), log)
    keep(cache, 'x', numbers(100, 32), log)
    cache.find('x', numbers(0, 32))
    keep(cache, 'x', numbers(200, 16), log)
    assert.deepEqual(log.slice(4), ['release 116', 'save 200'])
    cache.limit(16)
    assert.equal(cache.find('x', numbers(100, 32)).position.length, 0)
    assert.ok(cache.bytes <= 16)
    cache.clear()
    assert.equal(cache.bytes + cache.size, 0)
  })

  it('never holds more than its bytes, and finds nothing that was never kept: random histories', () => {
    for (let seed = 0; seed < 50; seed++) {
      const random = createRandomNumbers(seed)
      const cache = createPrefixCache({ maxBytes: 16 * (1 + pick(random, 12)) })
      const kept: string[] = []
      for (let round = 0; round < 60; round++) {
        const start = pick(random, 3)
        const tokens = [
          ...numbers(start, 16 * (1 + pick(random, 3))),
          ...numbers(900, 16 * pick(random, 2)),
        ]
        if (random() < 0.6) {
          keep(cache, 'x', tokens)
          kept.push(tokens.join())
        }
        assert.ok(cache.bytes <= 16 * 12 && cache.bytes === 16 * cache.size)
        const { position } = cache.find('x', tokens)
        const beginning = tokens.slice(0, position.length).join()
        assert.ok(position.length === 0 || kept.some((all) => all.startsWith(beginning)))
      }
    }
  })
})

const cachedTokens = (events: readonly { kind: string }[]) =>
  (events.at(-1) as { cachedTokens?: number }).cachedTokens

describe('the loop with a prefix cache', () => {
  const long = 'once upon a time there was a server'

  it('takes over a finished prompt, and counts what it took', async () => {
    const world = createTestLoop({ prefixPositions: 1000 })
    const prompt = { kind: 'text', text: long } as const
    world.submit(createRequest({ id: 'a', prompt, maxTokens: 5 }))
    const first = await world.ended('a')
    world.submit(createRequest({ id: 'b', prompt, maxTokens: 5 }))
    const second = await world.ended('b')
    assert.equal(cachedTokens(first), 0)
    assert.equal(cachedTokens(second), 2 * blockTokens)
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
    // Taken over in whole blocks; the rest is computed for each.
    assert.equal(computed, long.length + 2 * (long.length % blockTokens))
  })

  it('shares nothing between adapters or strengths', async () => {
    const prompt = { kind: 'text', text: long } as const
    const world = createTestLoop({ prefixPositions: 1000 })
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
    const texts = async (prefixPositions: number) => {
      const random = createRandomNumbers(5)
      const world = createTestLoop({ prefixPositions, rows: 3 })
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

describe('several turns of a chat', () => {
  it('compute only what is new: turn 2 takes over prompt and answer of turn 1', async () => {
    const first = 'user: tell me a story. assistant: '
    const answer = 'Once there was a server that forgot nothing.'
    const second = `${first}${answer} user: and then? assistant: `
    const logits = replying({ [second]: 'Nothing.', [first]: answer })
    const world = createTestLoop({ prefixPositions: 1000, capacity: 400, maxChunk: 128, logits })
    const ask = (id: string, text: string) => {
      world.submit(createRequest({ id, prompt: { kind: 'text', text }, maxTokens: 100 }))
      return world.ended(id)
    }
    assert.equal(textOf(await ask('one', first)), answer)
    const events = await ask('two', second)
    assert.equal(textOf(events), 'Nothing.')
    const computed = first.length + answer.length
    assert.equal(cachedTokens(events), computed - (computed % blockTokens))
  })
})
