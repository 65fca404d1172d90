// An adapter is replaced in the front while a real vLLM answers with it: each answer is that of the version with
// which it began, and the old version's registration leaves with the last of them.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { prompts } from '../real/prompts.ts'
import type { RealServer } from '../support/real-server.ts'
import {
  type Answer,
  answerWithinMs,
  ask,
  compare,
  place,
  settings,
  startFront,
  stream,
  until,
  usual,
} from './place.ts'

const adminKey = 'an-admin-key-of-this-test'
const versionA = join(settings.adapters, 'smollm2-safety-r1')
const versionB = join(settings.adapters, 'smollm2-safety-r1-paper')
const adapters = join(place, 'adapters-replaced')
const content = prompts[2]!
/** Long enough that the answers still run when the adapter is replaced. */
const maxTokens = 64

describe('an adapter that is replaced while a real vLLM answers with it', () => {
  let front: RealServer

  before(async () => {
    mkdirSync(adapters)
    cpSync(versionA, join(adapters, 'live'), { recursive: true })
    cpSync(versionB, join(adapters, 'version-b'), { recursive: true })
    front = await startFront([usual], ['--admin-key', adminKey], adapters)
  })
  after(async () => {
    await front?.stop()
  })

  async function replace(): Promise<void> {
    const form = new FormData()
    form.set('name', 'live')
    form.set('replace', 'true')
    for (const name of ['adapter_config.json', 'adapter_model.safetensors', 'manifest.json']) {
      form.set(name, new Blob([readFileSync(join(versionB, name))]), name)
    }
    const response = await fetch(`${front.url}/v1/adapters`, {
      method: 'POST',
      headers: { authorization: `Bearer ${adminKey}` },
      body: form,
    })
    const { change } = (await response.json()) as { change?: { outcome: string } }
    assert.deepEqual([response.status, change?.outcome], [200, 'replaced'])
  }

  /** Of the front's names at the upstream, those of this answer's adapter. */
  async function registeredAs({ adapter }: Pick<Answer, 'adapter'>): Promise<string[]> {
    const { digest, scale } = adapter[0]!
    const { adapters: names } = await usual.names()
    return names.filter(
      (name) => name.startsWith(digest.slice(0, 12)) && name.endsWith(`@${scale}`),
    )
  }

  it('each answer is A’s or B’s as it began, none is lost, and A is unloaded after its last', async (t) => {
    const asked = (adapter: string) => ({
      content,
      adapter,
      maxTokens,
      fields: { ignore_eos: true },
    })
    const refA = await ask(front, asked('live:1'))
    const refB = await ask(front, asked('version-b:1'))
    assert.throws(() => compare(refA.tokens, refB.tokens, 'A and B'), /≠/, 'A and B say the same')
    assert.equal((await registeredAs(refA)).length, 1)

    const before = [0, 1, 2, 3].map(() => stream(front, asked('live:1')))
    await until(answerWithinMs, 'tokens of all', () =>
      before.every(({ numTokens }) => numTokens > 0),
    )
    await replace()
    const numSaid = before.map(({ numTokens }) => numTokens)
    const after = [0, 1, 2, 3].map(() => stream(front, asked('live:1')))
    await until(answerWithinMs, 'tokens of B', () => after.every(({ numTokens }) => numTokens > 0))
    const atOnce = await registeredAs(refA)

    for (const [streams, reference, title] of [
      [before, refA, 'A'],
      [after, refB, 'B'],
    ] as const) {
      for (const { ended } of streams) {
        const { status, errors, finish, tokens, adapter } = await ended
        assert.deepEqual([status, errors, finish], [200, [], 'length'])
        assert.equal(tokens.length, maxTokens)
        assert.equal(adapter[0]?.digest, reference.adapter[0]!.digest, title)
        compare(reference.tokens, tokens, `begun with ${title}`)
      }
    }
    assert.ok(
      numSaid.every((said) => said < maxTokens),
      `they had ended: ${numSaid}`,
    )
    assert.equal(atOnce.length, 1)
    await until(answerWithinMs, 'A that is unloaded', async () => {
      return (await registeredAs(refA)).length === 0
    })
    assert.equal((await registeredAs(refB)).length, 1)
    t.diagnostic(`replaced when A had said ${numSaid} of ${maxTokens} tokens`)
  })
})
