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

describe('admission of a server that drains', () => {
  const shuttingDown = { code: 'shutting_down', status: 503 }

  it('lets in what came before, refuses what comes after, and is idle after the last of them', async () => {
    const { admission, enter } = createWorld()
    const leave = admission.arrive()
    admission.drain()
    let isIdle = false
    const idle = admission.whenIdle().then(() => {
      isIdle = true
    })
    assert.throws(() => admission.arrive(), shuttingDown)
    admission.requireRoom('a')
    const ticket = enter('a', {})
    leave()
    leave()
    await Promise.resolve()
    assert.equal(isIdle, false)
    ticket.release()
    await idle
  })

  it('waits for a request that is still on its way in, and no longer', async () => {
    const { admission } = createWorld()
    const leave = [admission.arrive(), admission.arrive()]
    admission.drain()
    let isIdle = false
    const idle = admission.whenIdle().then(() => {
      isIdle = true
    })
    leave[0]!()
    leave[0]!()
    await Promise.resolve()
    assert.equal(isIdle, false)
    leave[1]!()
    await idle
  })

  it('lets nothing in once all were stopped', () => {
    const { admission, enter } = createWorld()
    admission.arrive()
    admission.drain()
    admission.stopAll()
    assert.throws(() => enter('a', {}), shuttingDown)
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
