// The same requests to our own engine and, over this front, to a real vLLM: greedy tokens, their
// log-probabilities, and adapters side by side. scripts/test-vllm.mjs starts the upstream.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { prompts } from '../real/prompts.ts'
import { type RealServer, startServer } from '../support/real-server.ts'

const place = process.env.DUTYFREE_VLLM
if (place === undefined) throw new Error('run npm run test:vllm, which makes ready what this needs')
const { model, adapters, upstream } = JSON.parse(readFileSync(join(place, 'vllm.json'), 'utf8'))

const readyWithinMs = 300_000
/** Our two best logits nearer than this: bfloat16 may choose the other. */
const nearTie = 0.25
const mostMeanDifference = 0.1

interface Token {
  readonly token: string
  readonly logprob: number
  readonly top_logprobs: readonly { readonly token: string; readonly logprob: number }[]
}

describe('over a real vLLM', () => {
  let own: RealServer
  let over: RealServer

  before(async () => {
    const shared = ['--model', model, '--adapters', adapters, '--cache-dir', join(place, 'cache')]
    const guard = ['--guard', 'none']
    own = await startServer([...shared, ...guard, '--weights', 'fp32'], { readyWithinMs })
    over = await startServer(
      [
        ...[...shared, '--engine', 'vllm', '--upstream', upstream],
        ...['--upstream-adapters', join(place, 'registered')],
      ],
      { readyWithinMs },
    )
  })
  after(async () => {
    await over?.stop()
    await own?.stop()
  })

  async function ask(server: RealServer, content: string, adapter: string) {
    const response = await fetch(`${server.url}/v1/chat/completions?adapter=${adapter}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: '',
        temperature: 0,
        max_tokens: 32,
        logprobs: true,
        top_logprobs: 2,
        messages: [{ role: 'user', content }],
      }),
    })
    const body = (await response.json()) as {
      choices: { logprobs: { content: Token[] } }[]
      adapter: { attested?: string }[]
    }
    assert.equal(response.status, 200, JSON.stringify(body))
    return { tokens: body.choices[0]!.logprobs.content, adapter: body.adapter }
  }

  /** Mean difference of the tokens that both say. Fails where they part without a near tie. */
  function compare(ours: readonly Token[], theirs: readonly Token[], what: string): number {
    const differences: number[] = []
    for (const [i, mine] of ours.entries()) {
      const other = theirs[i]
      if (other?.token !== mine.token) {
        const [first, second] = mine.top_logprobs
        const gap = first!.logprob - second!.logprob
        assert.ok(gap < nearTie, `${what}, token ${i}: ${mine.token} ≠ ${other?.token}, gap ${gap}`)
        break
      }
      differences.push(Math.abs(other.logprob - mine.logprob))
    }
    return differences.reduce((sum, x) => sum + x, 0) / Math.max(1, differences.length)
  }

  const safe = 'smollm2-safety-r1'
  const variants = ['none', `${safe}:1`, `${safe}:0.5`, `${safe}:0.5,${safe}-paper:0.5`]
  for (const variant of variants) {
    it(`${variant}: greedy tokens up to a near tie, and log-probabilities`, async (t) => {
      const means: number[] = []
      for (const prompt of prompts.slice(0, 6)) {
        const [ours, theirs] = await Promise.all([
          ask(own, prompt, variant),
          ask(over, prompt, variant),
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

  it('eight different adapters in one batch each answer as alone', async () => {
    const strengths = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    const prompt = prompts[0]!
    const together = await Promise.all(strengths.map((s) => ask(over, prompt, `${safe}:${s}`)))
    for (const [i, strength] of strengths.entries()) {
      const ours = await ask(own, prompt, `${safe}:${strength}`)
      compare(ours.tokens, together[i]!.tokens, `strength ${strength}`)
    }
  })
})
