// The log-probabilities of a prompt in an answer, against a plain reading of its tokens: whole and
// streamed, for one choice and several.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createCompletionReply } from '../server/http/reply/completion-reply.ts'
import { LongJson } from '../server/http/reply/long-json.ts'
import { createSafetyCount } from '../server/http/reply/safety-field.ts'
import { createTextOffsets } from '../server/http/reply/text-offsets.ts'
import { jsonPieces } from '../server/http/wire/json-pieces.ts'
import { toPromptTable, toPromptTokens } from './support/prompt-table.ts'
import { createRandomNumbers } from './support/random-numbers.ts'

/** Several ids of one text: halves of a code point read alike. */
const vocab = ['a', ' b', 'é', '"', '\n', '\u2028', '\uFFFD', '\uFFFD', '7', '__proto__', '']

function randomPrompt(seed: number, length: number, numTop: number) {
  const random = createRandomNumbers(seed)

  function randomWord() {
    const id = Math.floor(random() * vocab.length)
    const logprob = random() < 0.05 ? Number.NEGATIVE_INFINITY : Math.log(random())
    return { id, token: vocab[id]!, logprob }
  }

  return Array.from({ length }, (_, i) => {
    const word = randomWord()
    const bytes = [...Buffer.from(word.token)]
    if (i === 0) return { ...word, bytes, logprob: null, rank: null, top: [] }
    const rank = 1 + Math.floor(random() * 9)
    return { ...word, bytes, rank, top: Array.from({ length: numTop }, randomWord) }
  })
}

type Prompt = ReturnType<typeof randomPrompt>

/** OpenAI's field. */
function legacyField(prompt: Prompt, text: string, numTop: number) {
  return {
    tokens: prompt.map(({ token }) => token),
    token_logprobs: prompt.map(({ logprob }) => logprob),
    top_logprobs: prompt.map(({ top, logprob }) => {
      const shown = top.slice(0, numTop).map((word) => [word.token, word.logprob] as const)
      return logprob === null ? null : Object.fromEntries(shown.reverse())
    }),
    text_offset: createTextOffsets().ofPrompt(prompt, text),
  }
}

/** vLLM's field. */
function tableField(prompt: Prompt, numTop: number) {
  return prompt.map(({ id, token, logprob, rank, top }) => {
    if (logprob === null) return null
    const best = top.slice(0, numTop).map((word, i) => {
      return [word.id, { logprob: word.logprob, rank: i + 1, decoded_token: word.token }] as const
    })
    return { ...Object.fromEntries(best), [id]: { logprob, rank, decoded_token: token } }
  })
}

function replyTo(prompt: Prompt, choices: number, stream: boolean) {
  const text = prompt.map(({ token }) => token).join('')
  const reply = createCompletionReply({
    id: 'cmpl-1',
    created: 1,
    model: 'tiny',
    n: choices,
    choicesPerPrompt: choices,
    stream: { includeUsage: false, continuousUsage: false, includeSafety: false },
    safety: createSafetyCount(null, choices),
    logprobs: 2,
    tokenIds: false,
    echo: true,
    promptLogprobs: stream ? null : 4,
  })
  const event = { kind: 'prompt', index: 0, text, logprobs: toPromptTable(prompt) } as const
  return { reply, event, text }
}

const asJson = (value: unknown) => JSON.parse(JSON.stringify(value))

describe('the log-probabilities of a prompt', () => {
  it('come back from their flat lists as they went in', () => {
    for (let seed = 1; seed <= 50; seed++) {
      const prompt = randomPrompt(seed, seed, seed % 6)
      const want = prompt.map(({ bytes: _, ...token }) => token)
      assert.deepEqual(toPromptTokens(toPromptTable(prompt)), want)
    }
  })

  it('are in each choice of a whole answer', () => {
    for (const choices of [1, 3]) {
      for (let seed = 1; seed <= 20; seed++) {
        const prompt = randomPrompt(seed, 2 * seed, 5)
        const { reply, event, text } = replyTo(prompt, choices, false)
        reply.collect(event)
        const body = JSON.parse([...jsonPieces(reply.body())].join(''))
        assert.equal(body.choices.length, choices)
        for (const choice of body.choices) {
          assert.equal(choice.text, text)
          assert.deepEqual(choice.logprobs, asJson(legacyField(prompt, text, 2)))
          assert.deepEqual(choice.prompt_logprobs, asJson(tableField(prompt, 4)))
        }
      }
    }
  })

  it('are in the first chunk of each choice of a stream', () => {
    const prompt = randomPrompt(1, 30, 5)
    const { reply, event, text } = replyTo(prompt, 3, true)
    const texts = Array.from(reply.chunks(event), (chunk) => {
      assert.ok(chunk instanceof LongJson, 'a prompt may be long: written in pieces')
      return [...jsonPieces(chunk.value)].join('')
    })
    const chunks: { choices: { index: number; logprobs: unknown }[] }[] = texts.map((text) =>
      JSON.parse(text),
    )
    assert.deepEqual(
      chunks.map(({ choices }) => choices[0]?.index),
      [0, 1, 2],
    )
    for (const { choices } of chunks) {
      assert.deepEqual(choices[0]?.logprobs, asJson(legacyField(prompt, text, 2)))
    }
    // The bytes are those of one JSON.stringify.
    for (const [i, chunk] of chunks.entries()) assert.equal(texts[i], JSON.stringify(chunk))
  })
})
