// A real vLLM that is killed, while it answers and while it is idle, and one that stands still: streams end once,
// health tells, nothing waits for ever, and the same front serves again when it is back.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { prompts } from '../real/prompts.ts'
import type { RealServer } from '../support/real-server.ts'
import {
  type Answer,
  answerWithinMs,
  ask,
  compare,
  post,
  readiness,
  readyWithinMs,
  startFront,
  stream,
  until,
  usual,
} from './place.ts'

const adapter = 'smollm2-safety-r1:0.5'
const content = prompts[1]!
const short = { content, adapter, maxTokens: 8 }
const long = { content, adapter, maxTokens: 200, fields: { ignore_eos: true } }

/** Between two health checks, the time of one, and three of them. */
const seenDeadWithinMs = 10_000
const seenSilentWithinMs = 45_000

async function untilReady(front: RealServer, status: number, ms: number): Promise<number> {
  const begun = performance.now()
  await until(ms, `readiness ${status}`, async () => (await readiness(front)).ready === status)
  assert.equal((await readiness(front)).live, 200)
  return (performance.now() - begun) / 1000
}

/** Of an answer that is told as a whole. */
async function errorOf(asked: ReturnType<typeof post>) {
  const response = await asked
  const { error } = (await response.json()) as { error: { code: string } }
  const retryAfter = Number(response.headers.get('retry-after'))
  return { status: response.status, code: error.code, retryAfter }
}

async function requireRefused(front: RealServer): Promise<void> {
  const { status, code, retryAfter } = await errorOf(post(front, short))
  assert.deepEqual([status, code], [503, 'upstream_unavailable'])
  assert.ok(retryAfter >= 1)
}

/** Registered again, and answering as before. */
async function requireRight(front: RealServer, reference: Answer): Promise<void> {
  compare(reference.tokens, (await ask(front, short)).tokens, 'afterwards')
  const digest = reference.adapter[0]!.digest.slice(0, 12)
  const { adapters } = await usual.names()
  assert.ok(adapters.some((name) => name.startsWith(digest) && name.endsWith('@0.5')))
}

/** Its end is seen, and the same front serves when it is back; says how long each took. */
async function requireReturn(front: RealServer, reference: Answer): Promise<string> {
  const seen = await untilReady(front, 503, seenDeadWithinMs)
  await requireRefused(front)
  const started = await usual.start()
  const served = await untilReady(front, 200, readyWithinMs)
  await requireRight(front, reference)
  return (
    `not ready after ${seen.toFixed(1)} s; vLLM started in ${started.toFixed(0)} s, ` +
    `ready ${served.toFixed(1)} s later`
  )
}

describe('a real vLLM that is killed', () => {
  let front: RealServer
  let reference: Answer

  before(async () => {
    front = await startFront([usual])
    reference = await ask(front, short)
  })
  after(async () => {
    await front?.stop()
  })

  it('its engine, while three streams run: each ends in one error, and the front serves when it is back', async (t) => {
    const streams = [0, 1, 2].map(() => stream(front, long))
    await until(answerWithinMs, 'tokens', () => streams.every(({ numTokens }) => numTokens > 0))
    usual.signalEngine('SIGKILL')
    for (const { ended } of streams) {
      const { status, errors, finish, tokens } = await ended
      assert.deepEqual([status, errors, finish], [200, ['engine_crashed'], null])
      assert.ok(tokens.length > 0 && tokens.length < long.maxTokens)
    }
    t.diagnostic(await requireReturn(front, reference))
  })

  it('all of it, while it is idle: the same', async (t) => {
    usual.signal('SIGKILL')
    await requireRefused(front)
    t.diagnostic(await requireReturn(front, reference))
  })
})

describe('a real vLLM that stands still', () => {
  const silence = 10
  const deadline = 15
  let front: RealServer
  let reference: Answer

  before(async () => {
    const flags = ['--upstream-timeout', `${silence}s`, '--request-timeout', `${deadline}s`]
    front = await startFront([usual], flags)
    reference = await ask(front, short)
  })
  after(async () => {
    usual.signal('SIGCONT')
    await front?.stop()
  })

  it('streams end after --upstream-timeout, others at their deadline or when health has told; none hangs', async (t) => {
    const begun = stream(front, long)
    await until(answerWithinMs, 'a token', () => begun.numTokens > 0)
    usual.signal('SIGSTOP')
    const stopped = performance.now()
    const since = () => (performance.now() - stopped) / 1000
    const waiting = errorOf(post(front, short))
    const cancelled = stream(front, long)
    cancelled.cancel()
    await assert.rejects(cancelled.ended, { name: 'AbortError' })

    const ending = await begun.ended
    const silentAfter = since()
    assert.deepEqual([ending.status, ending.errors, ending.finish], [200, ['timeout'], null])
    assert.ok(silentAfter < deadline, `${silentAfter}`)
    const later = errorOf(post(front, short))
    const late = await waiting
    assert.deepEqual([late.status, late.code], [504, 'timeout'])
    const lateAfter = since()
    const refused = await later
    assert.deepEqual([refused.status, refused.code], [503, 'upstream_unavailable'])
    await untilReady(front, 503, seenSilentWithinMs)
    const seen = since()
    await requireRefused(front)

    usual.signal('SIGCONT')
    const back = await untilReady(front, 200, readyWithinMs)
    await requireRight(front, reference)
    t.diagnostic(
      `stream ended after ${silentAfter.toFixed(1)} s, deadline after ${lateAfter.toFixed(1)} s, not ` +
        `ready after ${seen.toFixed(1)} s; ready ${back.toFixed(1)} s after it went on`,
    )
  })
})
