// vLLM's small fields that clients send: what may be sampled, what is shown, and which ids are told.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { GenerateRequest, GenerationEvent } from '../server/contracts/generation.ts'
import { textTask } from '../server/engine/text-task.ts'
import { writeByteTokenizer } from './support/byte-tokenizer.ts'
import { accepted, createFakeEngine, delta, done, finished } from './support/fake-engine.ts'
import { createFront, goodChat, parseEvents, readJson } from './support/front.ts'
import { startServer } from './support/real-server.ts'
import {
  bytesOf,
  certain,
  createRequest,
  createTestLoop,
  createTestSequence,
  eos,
  replying,
  textOf,
} from './support/scripted-model.ts'
import { createTempFolder } from './support/temp-folder.ts'

const A = 65
const goodCompletion = { model: 'tiny', prompt: 'Hi' }
const routes = [
  ['/v1/chat/completions', goodChat],
  ['/v1/completions', goodCompletion],
] as const

/** Feeds the tokens; what may not come gives way to "A". */
function say(
  reply: string,
  fields: Parameters<typeof createRequest>[0],
  badWords: readonly string[] = [],
) {
  const request = createRequest({ maxTokens: 64, ...fields })
  const sequence = createTestSequence(request, { badWords: badWords.map(bytesOf) })
  const events: GenerationEvent[] = []
  for (const token of [...bytesOf(reply), eos]) {
    const logits = certain(token)
    logits[A] = 10
    events.push(...sequence.accept(logits, null))
    if (sequence.isFinished) break
  }
  return events
}

const deltasOf = (events: readonly GenerationEvent[]) =>
  events.filter((event) => event.kind === 'delta')

describe('bad words', () => {
  it('lose their last token, wherever they begin', () => {
    assert.equal(textOf(say('a cab cab', {}, ['cab'])), 'a caA caA')
    assert.equal(textOf(say('bb', {}, ['b'])), 'AA')
    assert.equal(textOf(say('aab', {}, ['aab', 'ab'])), 'aaA')
  })

  it('that are only begun change nothing', () => {
    assert.equal(textOf(say('ca b', {}, ['cab'])), 'ca b')
  })

  it('are forbidden with a space before them and without', async () => {
    const dir = createTempFolder()
    writeByteTokenizer(dir)
    const work = { kind: 'words', words: ['  abc', 'x'] } as const
    const { words } = await textTask.run({ dir, work }, () => {})
    assert.equal(words.length, 4)
    assert.ok(words.every((word) => word.length > 0))
    assert.equal(words[0]!.length, 1, 'the tokenizer’s own token for abc')
  })
})

describe('allowed tokens', () => {
  it('are all that can be sampled', () => {
    const sampling = { allowedTokens: [A, 98, eos] }
    assert.equal(textOf(say('abc', { sampling })), 'AbA')
  })

  it('of which none may come fail their own request, and no other', async () => {
    const { submit, ended } = createTestLoop({ logits: replying({ hi: 'bbbb', ho: 'fine' }) })
    const sampling = { allowedTokens: [eos], minTokens: 2 }
    submit(createRequest({ id: 'none', sampling }))
    submit(createRequest({ id: 'other', prompt: { kind: 'text', text: 'ho' } }))
    const end = (await ended('none')).at(-1)
    assert.ok(end?.kind === 'failed' && end.error.code === 'invalid_value', JSON.stringify(end))
    assert.equal(textOf(await ended('other')), 'fine')
  })

  it('keep the numbers they had', () => {
    const sampling = { allowedTokens: [98, A] }
    const [first] = deltasOf(say('b', { sampling, topLogprobs: 1 }))
    assert.ok(Math.abs(first!.logprobs![0]!.logprob) < 1e-6)
  })
})

describe('special tokens', () => {
  const reply = (skipSpecialTokens: boolean, stop: readonly string[] = []) => {
    const request = createRequest({ sampling: { skipSpecialTokens, stop }, topLogprobs: 0 })
    const sequence = createTestSequence(request)
    return [97, 258, 98, eos].flatMap((token) => sequence.accept(certain(token), null))
  }

  it('are text where they are not skipped; the end token is none', () => {
    assert.equal(textOf(reply(true)), 'ab')
    assert.equal(textOf(reply(false)), 'a<pad>b')
    const hidden = deltasOf(reply(false)).flatMap(({ logprobs }) => logprobs ?? [])
    assert.ok(hidden.every((token) => token.hidden === undefined))
  })

  it('still end the answer as stop strings, and are named', () => {
    for (const skips of [true, false]) {
      const end = reply(skips, ['<eos>']).at(-1)
      assert.ok(end?.kind === 'choice_finished' && end.stopReason === '<eos>')
      const before = reply(skips, ['<pad>'])
      assert.equal(textOf(before), 'a')
    }
  })
})

describe('ids and log-probabilities', () => {
  it('every token of the answer is told once, its end too', () => {
    const events = say('aé🙂', { returnTokenIds: true, sampling: { stop: ['zz'] } })
    const ids = deltasOf(events).flatMap(({ tokenIds }) => tokenIds!)
    assert.deepEqual(ids, [...bytesOf('aé🙂'), eos])
    assert.ok(deltasOf(say('a', {})).every((event) => !('tokenIds' in event)))
  })

  it('the prompt’s are told once, before the first choice', async () => {
    const { submit, ended } = createTestLoop({ logits: replying({ hi: 'a' }) })
    submit(createRequest({ n: 2, returnTokenIds: true }))
    const prompts = (await ended('request')).filter(({ kind }) => kind === 'prompt')
    assert.deepEqual(prompts, [
      { kind: 'prompt', index: 0, text: 'hi', logprobs: null, tokenIds: bytesOf('hi') },
    ])
  })

  it('logprob_token_ids are alternatives, likely or not, and none comes twice', () => {
    const [first] = deltasOf(say('b', { topLogprobs: 1, logprobTokens: [98, 7] }))
    assert.deepEqual(
      first!.logprobs![0]!.top.map(({ id }) => id),
      [98, 7],
    )
  })
})

describe('on the wire', () => {
  const ids: (request: GenerateRequest) => AsyncGenerator<GenerationEvent> = async function* (
    request,
  ) {
    yield accepted(request)
    if (request.returnTokenIds) {
      yield { kind: 'prompt', index: 0, text: '', logprobs: null, tokenIds: [1, 2] }
    }
    const told = request.returnTokenIds ? { tokenIds: [5] } : {}
    yield { ...delta(0, 'content', 'Hello'), ...told } as GenerationEvent
    yield { ...delta(0, 'content', ''), ...told } as GenerationEvent
    yield finished(0)
    yield done
  }

  for (const [path, good] of routes) {
    it(`${path} tells the ids, streamed as whole, only where asked`, async () => {
      const front = createFront({ engine: createFakeEngine({ script: ids }) })
      const whole = await readJson(await front.post(path, { ...good, return_token_ids: true }))
      const prompt = whole.prompt_token_ids ?? whole.choices[0].prompt_token_ids
      assert.deepEqual(
        [prompt, whole.choices[0].token_ids],
        [
          [1, 2],
          [5, 5],
        ],
      )
      const text = await (
        await front.post(path, { ...good, return_token_ids: true, stream: true })
      ).text()
      // biome-ignore lint/suspicious/noExplicitAny: a test asserts on whatever came
      const chunks = parseEvents(text).filter((event) => event !== '[DONE]') as any[]
      const prompts = chunks.flatMap(
        ({ prompt_token_ids: own, choices }) => own ?? choices[0]?.prompt_token_ids ?? [],
      )
      const tokens = chunks.flatMap(({ choices }) => choices[0]?.token_ids ?? [])
      assert.deepEqual(
        [prompts, tokens],
        [
          [1, 2],
          [5, 5],
        ],
      )
      const silent = await (await front.post(path, good)).text()
      assert.doesNotMatch(silent, /token_ids/)
    })

    it(`${path} reaches the engine with all of them`, async () => {
      const front = createFront()
      const body = {
        ...good,
        logprobs: path.includes('chat') ? true : 1,
        truncate_prompt_tokens: 5,
        bad_words: ['x'],
        allowed_token_ids: [1, 2],
        skip_special_tokens: false,
        logprob_token_ids: [3],
        priority: 0,
      }
      assert.equal((await front.post(path, body)).status, 200)
      const { truncatePrompt, logprobTokens, sampling } = front.engine.requests.at(-1)!
      assert.deepEqual([truncatePrompt, logprobTokens], [5, [3]])
      const { badWords, allowedTokens, skipSpecialTokens } = sampling
      assert.deepEqual([badWords, allowedTokens, skipSpecialTokens], [['x'], [1, 2], false])
    })

    it(`${path} names what is wrong with them`, async () => {
      const front = createFront()
      const wrong = [
        [{ truncate_prompt_tokens: 0 }, 'truncate_prompt_tokens'],
        [{ truncate_prompt_tokens: 513 }, 'truncate_prompt_tokens'],
        [{ truncate_prompt_tokens: 5, truncation_side: 'right' }, 'truncation_side'],
        [{ bad_words: [' '] }, 'bad_words.0'],
        [{ bad_words: Array(129).fill('x') }, 'bad_words'],
        [{ bad_words: 'x' }, 'bad_words'],
        [{ allowed_token_ids: [] }, 'allowed_token_ids'],
        [{ allowed_token_ids: [1000] }, 'allowed_token_ids'],
        [{ allowed_token_ids: [-1] }, 'allowed_token_ids.0'],
        [{ skip_special_tokens: 'no' }, 'skip_special_tokens'],
        [{ return_token_ids: 1 }, 'return_token_ids'],
        [{ logprob_token_ids: [1] }, 'logprob_token_ids'],
        [{ logprob_token_ids: [1000] }, 'logprob_token_ids'],
        [{ priority: 1 }, 'priority'],
      ] as const
      for (const [fields, param] of wrong) {
        const response = await front.post(path, { ...good, ...fields })
        const { error } = await readJson(response)
        assert.deepEqual([response.status, error.param], [400, param], error.message)
      }
    })

    it(`${path} takes a long prompt that is cut`, async () => {
      const front = createFront()
      const long = 'ab '.repeat(60_000)
      const body =
        'prompt' in good
          ? { ...good, prompt: long }
          : { ...good, messages: [{ role: 'user', content: long }] }
      assert.equal((await front.post(path, body)).status, 400)
      assert.equal((await front.post(path, { ...body, truncate_prompt_tokens: 9 })).status, 200)
    })
  }
})

it('on the real server: a cut prompt, its ids, and a word that is not said', async () => {
  const temp = createTempFolder()
  const folders = ['--adapters', join(temp, 'adapters'), '--cache-dir', join(temp, 'cache')]
  const server = await startServer([...folders, '--max-batch', '2', '--threads', '1'])
  const ask = async (fields: object) => {
    const response = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'tiny-reasoner', temperature: 0, max_tokens: 8, ...fields }),
    })
    assert.equal(response.status, 200, await response.clone().text())
    return readJson(response)
  }
  try {
    const prompt = 'one two three four five six'
    const whole = await ask({ prompt, return_token_ids: true })
    const ids = whole.choices[0].prompt_token_ids
    assert.equal(whole.choices[0].token_ids.length, whole.usage.completion_tokens)
    const cut = await ask({ prompt, truncate_prompt_tokens: 3, echo: true, return_token_ids: true })
    assert.equal(cut.usage.prompt_tokens, 3)
    assert.deepEqual(cut.choices[0].prompt_token_ids, ids.slice(-3))
    const same = await ask({ prompt: ids.slice(-3), echo: true })
    assert.equal(cut.choices[0].text, same.choices[0].text)

    const chat = '<｜User｜>What is 2 + 2?<｜Assistant｜><think>\n'
    const free = (await ask({ prompt: chat, max_tokens: 40 })).choices[0].text
    const word = /[A-Za-z]{3,}/.exec(free)![0]
    const without = await ask({ prompt: chat, max_tokens: 40, bad_words: [word] })
    assert.ok(!without.choices[0].text.includes(word), `${word} is in ${without.choices[0].text}`)
  } finally {
    assert.equal(await server.stop(), 0)
  }
})
