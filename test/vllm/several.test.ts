// Two real vLLMs behind one front: adapters have their places, one is killed, and what it had not begun goes to
// the other.

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
  small,
  startFront,
  stream,
  until,
  usual,
  type Vllm,
} from './place.ts'

const id = 'smollm2-safety-r1'
const strengths = [0.5, 0.75, 1, 1.25, 1.5, 1.75]
const content = prompts[3]!
const short = (strength: number) => ({ content, adapter: `${id}:${strength}`, maxTokens: 8 })

/** Answers that it has finished. */
async function numServed({ url }: Vllm): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const counts = [...text.matchAll(/^vllm:request_success_total\{.*\} (\S+)$/gm)]
  return counts.reduce((sum, [, count]) => sum + Number(count), 0)
}

describe('two real vLLMs', () => {
  let front: RealServer
  const references = new Map<number, Answer>()

  before(async () => {
    front = await startFront([usual, small], ['--max-adapter-rank', '1'])
  })
  after(async () => {
    await front?.stop()
  })

  it('an adapter always goes to the same one, and both serve', async () => {
    const before = await Promise.all([usual, small].map(numServed))
    // Of fronts before this one.
    const former = [...(await usual.names()).adapters, ...(await small.names()).adapters]
    for (const strength of [...strengths, ...strengths]) {
      const answer = await ask(front, short(strength))
      const reference = references.get(strength)
      if (reference !== undefined) compare(reference.tokens, answer.tokens, `${strength}`)
      references.set(strength, answer)
      const [here, there] = await Promise.all([usual.names(), small.names()])
      const shared = here.adapters.filter((name) => there.adapters.includes(name))
      const isNew = (name: string) => !name.startsWith('blank') && !former.includes(name)
      assert.deepEqual(shared.filter(isNew), [])
    }
    const after = await Promise.all([usual, small].map(numServed))
    const served = after.map((count, i) => count - before[i]!)
    // Beside the answers, each registration is tried by one call.
    assert.ok(
      served.every((count) => count >= 2),
      `${served}`,
    )
  })

  it('a request on which vLLM fails (500), in good health, shuts neither and names the field', async () => {
    const failing = { structured_outputs: { regex: '\\p{L}+' } }
    for (let i = 0; i < 4; i++) {
      const asked = { content, adapter: 'none', maxTokens: 4, fields: failing }
      const response = await post(front, asked)
      const { error } = (await response.json()) as { error: { code: string; param: string } }
      assert.deepEqual(
        [response.status, error.code, error.param],
        [400, 'unsupported_parameter', 'structured_outputs.regex'],
      )
      await ask(front, short(strengths[i]!))
    }
    assert.equal((await readiness(front)).ready, 200)
    assert.ok(!front.lines.some((line) => line.includes('does not answer')))
  })

  /** Of a name that is registered there. */
  async function strengthAt(upstream: Vllm): Promise<number> {
    const { adapters } = await upstream.names()
    const strength = Number(/^[0-9a-f]+@([\d.]+)$/.exec(adapters[0] ?? '')?.[1])
    assert.ok(strengths.includes(strength), `${adapters}`)
    return strength
  }

  const begin = (strength: number, maxTokens: number) =>
    stream(front, { ...short(strength), maxTokens, fields: { ignore_eos: true } })

  async function answersOf(some: readonly number[]): Promise<void> {
    const asked = some.map(async (one) => ({ one, answer: await ask(front, short(one)) }))
    for (const { one, answer } of await Promise.all(asked)) {
      compare(references.get(one)!.tokens, answer.tokens, `${one}`)
    }
  }

  /** As the front says it. */
  async function startAgain(): Promise<number> {
    const numBack = () =>
      front.lines.filter((line) => line.includes(`${small.url}: it serves again`))
    const { length: before } = numBack()
    const started = await small.start()
    await until(readyWithinMs, 'small that serves again', () => numBack().length > before)
    return started
  }

  it('one is shut down: it ends what it began, all others are answered by the other', async (t) => {
    const strength = await strengthAt(small)
    const begun = begin(strength, 64)
    await until(answerWithinMs, 'a token', () => begun.numTokens > 0)
    small.shutDown()
    await answersOf([strength, strength, ...strengths])
    const { status, errors, finish, tokens } = await begun.ended
    assert.deepEqual([status, errors, finish, tokens.length], [200, [], 'length', 64])
    t.diagnostic(`vLLM started again in ${(await startAgain()).toFixed(0)} s`)
    await answersOf([strength])
  })

  it('one is killed: a stream that it began ends in one error, all others are answered by the other', async (t) => {
    const { adapters } = await small.names()
    const strength = await strengthAt(small)
    const begun = begin(strength, 200)
    await until(answerWithinMs, 'a token', () => begun.numTokens > 0)
    small.signal('SIGKILL')
    await answersOf([strength, strength, ...strengths])
    const { status, errors, finish } = await begun.ended
    assert.deepEqual([status, errors, finish], [200, ['engine_crashed'], null])
    assert.equal((await readiness(front)).ready, 200)
    t.diagnostic(`vLLM started again in ${(await startAgain()).toFixed(0)} s`)
    await answersOf([strength])
    assert.deepEqual((await small.names()).adapters, adapters)
  })
})
