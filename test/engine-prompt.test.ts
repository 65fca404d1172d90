// What is told of a prompt: its text again, and how likely each of its tokens was.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { deserialize, serialize } from 'node:v8'
import type { GenerationEvent } from '../server/contracts/generation.ts'
import { type PromptLogprobs, promptBytes } from '../server/contracts/prompt-logprobs.ts'
import { logprobsOf } from '../server/sampling/logprobs.ts'
import { toPromptTokens } from './support/prompt-table.ts'
import {
  bytesOf,
  chaotic,
  createRequest,
  createTestLoop,
  textOf,
} from './support/scripted-model.ts'

const prompt = { kind: 'text', text: 'once upon a time there was' } as const
const tokens = bytesOf(prompt.text)

const promptOf = (events: readonly GenerationEvent[]) => {
  const told = events.filter((event) => event.kind === 'prompt')
  assert.equal(told.length, 1, 'the prompt is told once')
  return told[0] as Extract<GenerationEvent, { kind: 'prompt' }>
}

function tableOf(events: readonly GenerationEvent[]): PromptLogprobs {
  const { logprobs } = promptOf(events)
  assert.ok(logprobs, 'the prompt has log-probabilities')
  return logprobs
}

describe('a prompt', () => {
  it('has the log-probabilities of the model at every position, none for the first token', async () => {
    for (const maxChunk of [2, 4, 7, 64]) {
      const world = createTestLoop({ maxChunk })
      world.submit(createRequest({ id: 'a', prompt, promptLogprobs: 3, maxTokens: 2 }))
      const table = tableOf(await world.ended('a'))
      assert.deepEqual(
        promptBytes(table).map(({ bytes }) => [...bytes]),
        tokens.map((byte) => [byte]),
      )
      const entries = toPromptTokens(table)
      assert.equal(entries.length, tokens.length)
      for (const [i, entry] of entries.entries()) {
        assert.equal(entry.token, String.fromCharCode(tokens[i]!))
        assert.equal(entry.id, tokens[i])
        if (i === 0) {
          assert.deepEqual([entry.logprob, entry.rank, entry.top], [null, null, []])
          continue
        }
        const want = logprobsOf(chaotic(tokens.slice(0, i), []), tokens[i] as number, 3)
        assert.equal(entry.logprob, want.sampled.logprob)
        assert.equal(entry.rank, want.rank)
        const top = entry.top.map(({ id, logprob }) => ({ id, logprob }))
        assert.deepEqual(top, want.top)
      }
    }
  })

  it('changes nothing of the answer, also where its beginning was computed before', async () => {
    const world = createTestLoop({ prefixPositions: 500 })
    world.submit(createRequest({ id: 'plain', prompt, maxTokens: 8 }))
    const want = textOf(await world.ended('plain'))
    world.submit(createRequest({ id: 'told', prompt, promptLogprobs: 0, maxTokens: 8 }))
    const events = await world.ended('told')
    assert.equal(textOf(events), want)
    assert.equal(toPromptTokens(tableOf(events)).length, tokens.length)
    // All of it had to be computed again.
    assert.equal((events.at(-1) as { cachedTokens?: number }).cachedTokens, 0)
  })

  it('travels as flat lists, each token text once: a long one is cheap to copy', async () => {
    const world = createTestLoop({ maxChunk: 64, capacity: 600 })
    const long = { kind: 'text', text: 'once upon a time. '.repeat(25) } as const
    const asked = { prompt: long, echo: true, promptLogprobs: 20, maxTokens: 0 }
    world.submit(createRequest({ id: 'a', ...asked }))
    const told = promptOf(await world.ended('a'))
    const table = tableOf([told])
    assert.equal(table.words.length, long.text.length * 21)
    assert.equal(new Set(table.ids).size, table.ids.length)
    assert.equal(table.texts.length, table.ids.length)
    // What structured clone makes: 12 bytes for each of the words, and little else.
    const perWord = serialize(told).length / table.words.length
    assert.ok(perWord < 16, `${perWord}`)
    assert.deepEqual(deserialize(serialize(told)), told)
  })

  it('is told once for several choices, before any of them speaks', async () => {
    const world = createTestLoop({ rows: 2 })
    world.submit(createRequest({ id: 'a', prompt, echo: true, n: 3, maxTokens: 3 }))
    const events = await world.ended('a')
    assert.equal(events[0], promptOf(events))
    assert.equal(promptOf(events).text, prompt.text)
    assert.equal(promptOf(events).logprobs, null)
    for (const index of [0, 1, 2]) assert.notEqual(textOf(events, { index }), '')
  })

  it('may be all that is asked for: no token is generated', async () => {
    const world = createTestLoop()
    const asked = { prompt, echo: true, promptLogprobs: 1, maxTokens: 0 }
    world.submit(createRequest({ id: 'a', n: 2, ...asked }))
    const events = await world.ended('a')
    assert.deepEqual(
      events.map(({ kind }) => kind),
      ['prompt', 'choice_finished', 'choice_finished', 'done'],
    )
    const end = events[1]
    assert.ok(end?.kind === 'choice_finished')
    assert.equal(end.reason, 'length')
    assert.equal(end.usage.completionTokens, 0)
  })

  it('keeps its log-probabilities when it has to give up its row in the middle', async () => {
    const alone = createTestLoop({ capacity: 600, maxChunk: 16 })
    const long = { kind: 'text', text: 'y'.repeat(400) } as const
    const asked = { prompt: long, promptLogprobs: 1, maxTokens: 60 }
    alone.submit(createRequest({ id: 'a', ...asked }))
    const want = await alone.ended('a')
    let numStarts = 0
    const world = createTestLoop({
      capacity: 600,
      maxChunk: 16,
      kvPositions: 900,
      wrap: (runner) => ({
        ...runner,
        prefill: (input) => {
          if (input.past === 0) numStarts++
          return runner.prefill(input)
        },
      }),
    })
    const older = { kind: 'text', text: 'x'.repeat(300) } as const
    world.submit(createRequest({ id: 'older', prompt: older, maxTokens: 300 }))
    world.submit(createRequest({ id: 'a', ...asked }))
    await world.ended('older')
    const events = await world.ended('a')
    assert.equal(textOf(events), textOf(want))
    assert.deepEqual(promptOf(events), promptOf(want))
    assert.ok(numStarts >= 2, `${numStarts}`)
  })
})
