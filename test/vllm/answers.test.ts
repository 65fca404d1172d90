// The same requests to our own engine and, over this front, to a real vLLM: greedy tokens, their
// log-probabilities, and adapters side by side. scripts/test-vllm.mjs starts the upstream.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { prompts } from '../real/prompts.ts'
import type { RealServer } from '../support/real-server.ts'
import {
  answerWithinMs,
  ask,
  compare,
  startFront,
  startOwn,
  stream,
  until,
  usual,
} from './place.ts'

const mostMeanDifference = 0.1

describe('over a real vLLM', () => {
  let own: RealServer
  let over: RealServer

  before(async () => {
    own = await startOwn()
    over = await startFront([usual])
  })
  after(async () => {
    await over?.stop()
    await own?.stop()
  })

  const safe = 'smollm2-safety-r1'
  const variants = ['none', `${safe}:1`, `${safe}:0.5`, `${safe}:0.5,${safe}-paper:0.5`]
  for (const variant of variants) {
    it(`${variant}: greedy tokens up to a near tie, and log-probabilities`, async (t) => {
      const means: number[] = []
      for (const prompt of prompts.slice(0, 6)) {
        const [ours, theirs] = await Promise.all([
          ask(own, { content: prompt, adapter: variant }),
          ask(over, { content: prompt, adapter: variant }),
        ])
        means.push(compare(ours.tokens, theirs.tokens, `${variant} ${prompt}`))
        assert.ok(theirs.adapter.every(({ attested }) => attested === 'arranged'))
      }
      const mean = means.reduce((sum, x) => sum + x, 0) / means.length
      t.diagnostic(`mean |Δ logprob| ${mean.toFixed(4)}`)
      assert.ok(mean <= mostMeanDifference, `${mean}`)
    })
  }

  describe('an answer of a given form', () => {
    const content = 'Say yes or no: is the sky blue?'
    const properties = { answer: { enum: ['yes', 'no'] }, times: { type: 'integer' } }
    const schema = { type: 'object', properties, required: ['answer', 'times'] }
    const closed = { ...schema, additionalProperties: false }
    const forms = {
      choice: [{ structured_outputs: { choice: ['perhaps', 'never'] } }, /^(perhaps|never)$/],
      regex: [{ guided_regex: '[a-c]{3}[0-9]' }, /^[a-c]{3}[0-9]$/],
      grammar: [{ guided_grammar: 'root ::= "x" ("y" | "z")' }, /^x[yz]$/],
      json_schema: [
        { response_format: { type: 'json_schema', json_schema: { name: 'a', schema: closed } } },
        /^\{\s*"answer"\s*:\s*"(yes|no)"\s*,\s*"times"\s*:\s*-?\d+\s*\}$/,
      ],
    } as const
    for (const [kind, [fields, pattern]] of Object.entries(forms)) {
      it(`${kind}: vLLM keeps to it, with an adapter`, async () => {
        const response = await fetch(`${over.url}/v1/chat/completions?adapter=${safe}:0.5`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({
            ...{ model: '', temperature: 0, max_tokens: 64, ...fields },
            messages: [{ role: 'user', content }],
          }),
        })
        const body = (await response.json()) as {
          choices: { message: { content: string }; finish_reason: string }[]
        }
        assert.equal(response.status, 200, JSON.stringify(body))
        const [choice] = body.choices
        assert.equal(choice!.finish_reason, 'stop')
        assert.match(choice!.message.content, pattern)
      })
    }
  })

  it('the base beside running adapters answers as alone', async (t) => {
    // On a processor; the start has seen it.
    assert.match(over.lines.join('\n'), /adapter that changes nothing is asked in place/)
    const fields = { max_tokens: 96, ignore_eos: true }
    const running = [1, 2].map((s) =>
      stream(over, { content: prompts[1]!, adapter: `${safe}:${s}`, fields }),
    )
    await until(answerWithinMs, 'two that run', () =>
      running.every(({ numTokens }) => numTokens > 0),
    )
    const asked = prompts
      .slice(0, 3)
      .map((content) => ({ content, adapter: 'none', maxTokens: 16 }))
    const beside = await Promise.all(asked.map((one) => ask(over, one)))
    const means: number[] = []
    for (const [i, one] of asked.entries()) {
      const { tokens } = await ask(own, one)
      means.push(compare(tokens, beside[i]!.tokens, one.content))
    }
    const mean = means.reduce((sum, x) => sum + x, 0) / means.length
    t.diagnostic(`mean |Δ logprob| ${mean.toFixed(4)}`)
    assert.ok(mean <= mostMeanDifference, `${mean}`)
    for (const { ended } of running) assert.equal((await ended).status, 200)
  })

  it('eight different adapters in one batch each answer as alone', async () => {
    const strengths = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    const prompt = prompts[0]!
    const asked = strengths.map((s) => ({ content: prompt, adapter: `${safe}:${s}` }))
    const together = await Promise.all(asked.map((one) => ask(over, one)))
    for (const [i, one] of asked.entries()) {
      const ours = await ask(own, one)
      compare(ours.tokens, together[i]!.tokens, one.adapter)
    }
  })
})
