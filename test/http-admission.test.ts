// Who gets in: prompts, sequences and prompt tokens, and a place for who has nothing under way.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createAdmission, loadOf } from '../server/http/admission.ts'

const full = { code: 'rate_limit_exceeded', status: 429 }

function createWorld(maxWaiting = 7) {
  const admission = createAdmission({ maxRunning: 1, maxWaiting, monotonicMs: () => 0 })
  return {
    admission,
    enter: (
      client: string,
      load: { prompts?: number; sequences?: number; promptTokens?: number },
    ) => admission.enter({ client, prompts: 1, sequences: 1, promptTokens: 1, ...load }),
  }
}

describe('admission', () => {
  it('counts prompts, sequences and prompt tokens, and names the limit and its flag', () => {
    for (const [load, words] of [
      [{ prompts: 4 }, '8 prompts are running or waiting and the limit is 8 (--max-queue)'],
      [{ sequences: 32 }, '64 sequences are running or waiting and the limit is 64 (--max-queue)'],
      [{ promptTokens: 65_536 }, '131072 prompt tokens are running or waiting and the limit is'],
    ] as const) {
      const { enter } = createWorld()
      const tickets = [enter('a', load), enter('a', load)]
      assert.throws(
        () => enter('a', {}),
        (error: Error & { headers: Record<string, string> }) => {
          assert.ok(error.message.startsWith(words), error.message)
          assert.ok(Number(error.headers['retry-after']) >= 1)
          return true
        },
      )
      tickets[0]!.release()
      tickets[0]!.release()
      enter('a', load)
      assert.throws(() => enter('a', load), full)
    }
  })

  it('a request beyond every limit runs when it is alone, and leaves room for small ones', () => {
    const { enter } = createWorld()
    enter('a', { prompts: 128, sequences: 16_384, promptTokens: 10_000_000 })
    enter('a', {})
    assert.throws(() => enter('a', { prompts: 128 }), full)
  })

  it('a client that has nothing under way gets one in where another has taken all', () => {
    const { enter } = createWorld()
    for (let i = 0; i < 8; i++) enter('greedy', {})
    assert.throws(() => enter('greedy', {}), full)
    const ticket = enter('other', {})
    assert.throws(() => enter('other', {}), full)
    ticket.release()
    enter('other', {})
  })

  it('says without a request whether the smallest would get in, and takes no place for it', () => {
    const { admission, enter } = createWorld()
    for (let i = 0; i < 8; i++) {
      admission.requireRoom('greedy')
      enter('greedy', {})
    }
    assert.throws(() => admission.requireRoom('greedy'), full)
    admission.requireRoom('other')
    enter('other', {})
    assert.throws(() => admission.requireRoom('other'), full)
    admission.drain()
    assert.throws(() => admission.requireRoom('third'), { code: 'shutting_down' })
  })

  it('whoever comes, twice the limits are never exceeded', () => {
    const { admission, enter } = createWorld()
    let numRefused = 0
    for (let i = 0; i < 100; i++) {
      try {
        enter(`client ${i}`, {})
      } catch {
        numRefused++
      }
    }
    assert.equal(admission.numInFlight, 16)
    assert.equal(numRefused, 84)
  })

  it('is idle again when everything was released', async () => {
    const { admission, enter } = createWorld()
    const tickets = [enter('a', { prompts: 3 }), enter('b', { sequences: 5 })]
    const idle = admission.whenIdle()
    for (const ticket of tickets) ticket.release()
    await idle
    assert.equal(admission.numInFlight, 0)
    enter('a', { prompts: 8, sequences: 64, promptTokens: 131_072 })
  })
})

describe('what a request brings', () => {
  it('is its prompts, times its choices, and its tokens, estimated for texts', () => {
    const message = { role: 'user', content: 'x'.repeat(40) } as const
    assert.deepEqual(
      loadOf([
        { n: 3, prompt: { kind: 'tokens', tokens: [1, 2, 3] } },
        { n: 3, prompt: { kind: 'text', text: 'x'.repeat(40) } },
        { n: 3, prompt: { kind: 'messages', messages: [message, message] } },
      ]),
      { prompts: 3, sequences: 9, promptTokens: 3 + 10 + 22 },
    )
  })
})
