// Requests through the engine over a fake vLLM: what is asked of it, and what a client gets.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { GenerationEvent } from '../server/contracts/generation.ts'
import { promptTokenAt } from '../server/contracts/prompt-logprobs.ts'
import { loadTokenizer } from '../server/tokenizer/tokenizer.ts'
import { within } from './support/deadline.ts'
import { type FakeVllm, fakeEnd, fakeLogits, startFakeVllm } from './support/fake-vllm.ts'
import { createRequest } from './support/scripted-model.ts'
import { createTempFolder } from './support/temp-folder.ts'
import {
  failureIn,
  openWorld,
  patience,
  textOfEvents,
  type World,
  writeDescription,
  writeUpAdapter,
} from './support/upstream-world.ts'

const dir = createTempFolder()
const tokenizer = loadTokenizer(writeDescription(join(dir, 'model')))
writeUpAdapter(join(dir, 'adapters'), 'safe', 1)
writeUpAdapter(join(dir, 'adapters'), 'terse', 2, 2)

/** What the fake says to a prompt that begins with these words, then the end. */
const replies: Record<string, string> = { hello: 'good day', long: 'x'.repeat(40) }

let fake: FakeVllm
let world: World

before(async () => {
  fake = await startFakeVllm({
    encode: (text) => tokenizer.encode(text),
    next(prompt, said) {
      const text = Buffer.from(prompt.filter((id) => id < 256)).toString()
      const reply = Object.entries(replies).find(([start]) => text.includes(start))?.[1]
      return reply === undefined ? null : (Buffer.from(reply)[said.length] ?? fakeEnd)
    },
  })
  world = await openWorld({ dir, upstreams: [fake] })
})
after(async () => {
  world.engine.close()
  await fake.close()
})

const finishOf = (events: readonly GenerationEvent[]) =>
  events.find((event) => event.kind === 'choice_finished')
const text = (text: string) => ({ kind: 'text', text }) as const

describe('requests over vLLM', () => {
  it('streams text, ends at the end token, and tells usage', async () => {
    const events = await world.run(createRequest({ id: 'plain', prompt: text('hello') }))
    assert.equal(textOfEvents(events), 'good day')
    const finish = finishOf(events)
    assert.equal(finish?.reason, 'stop')
    assert.equal(finish?.usage.completionTokens, 9)
    assert.equal(events.at(-1)?.kind, 'done')
    assert.ok(events.filter(({ kind }) => kind === 'delta').length > 3)
  })

  it('sends token ids, the base by name, every sampling parameter and no stop string', async () => {
    const sampling = {
      temperature: 0.7,
      topP: 0.9,
      topK: 5,
      minP: 0.1,
      presencePenalty: 0.3,
      frequencyPenalty: -0.4,
      repetitionPenalty: 1.1,
      logitBias: [[104, 2.5]] as const,
      minTokens: 2,
      stop: ['zz'],
      stopTokenIds: [7],
      seed: -9007199254740993n,
    }
    await world.run(createRequest({ id: 'table', prompt: text('hello'), maxTokens: 12, sampling }))
    const { body } = fake.completions().at(-1)!
    assert.deepEqual(body, {
      model: 'base-model',
      prompt: [...Buffer.from('hello')],
      stream: true,
      stream_options: { include_usage: true },
      max_tokens: 12,
      min_tokens: 2,
      temperature: 0.7,
      top_p: 0.9,
      top_k: 5,
      min_p: 0.1,
      presence_penalty: 0.3,
      frequency_penalty: -0.4,
      repetition_penalty: 1.1,
      logit_bias: { 104: 2.5 },
      stop_token_ids: [fakeEnd, 7],
      ignore_eos: true,
      add_special_tokens: false,
      return_token_ids: true,
      return_tokens_as_token_ids: true,
      seed: '-9007199254740993',
    })
  })

  it('finds stop strings itself and closes the connection', async () => {
    const closed = fake.nextClosed()
    fake.state.beforeToken = (said) => (said < 6 ? undefined : closed)
    const sampling = { stop: ['od d'] }
    const events = await world.run(createRequest({ id: 'stop', prompt: text('hello'), sampling }))
    assert.equal(textOfEvents(events), 'go')
    assert.equal(finishOf(events)?.stopReason, 'od d')
    assert.equal(events.at(-1)?.kind, 'done')
    await within(patience, 'closed connection', closed)
    fake.state.beforeToken = undefined
  })

  it('sends one of several greedy choices, and all of the others with a seed each', async () => {
    const { length: before } = fake.completions()
    fake.state.jitter = 0.5
    const greedy = await world.run(createRequest({ id: 'n0', prompt: text('abyss'), n: 3 }))
    fake.state.jitter = 0
    assert.equal(fake.completions().length, before + 1)
    const texts = [0, 1, 2].map((index) => textOfEvents(greedy, index))
    assert.equal(new Set(texts).size, 1)
    assert.ok(texts[0]!.length > 0)
    const sampling = { temperature: 1, seed: 5n }
    await world.run(createRequest({ id: 'n1', prompt: text('hello'), n: 3, sampling }))
    const seeds = fake.completions().slice(-3)
    assert.deepEqual(seeds.map(({ body }) => body.seed).sort(), ['5', '6', '7'])
  })

  it('tells log-probabilities of tokens and prompt as the upstream computes them', async () => {
    const prompt = text('hello there')
    const tokens = tokenizer.encode(prompt.text)
    const fields = { id: 'lp', prompt, topLogprobs: 2, promptLogprobs: 2, echo: true, maxTokens: 3 }
    const events = await world.run(createRequest(fields))
    const deltas = events.filter((event) => event.kind === 'delta')
    const logprobs = deltas.flatMap((event) => event.logprobs ?? [])
    assert.equal(logprobs.length, 3)
    const logits = fakeLogits(tokens, 0)
    const best = [...logits.keys()].sort((x, y) => logits[y]! - logits[x]!)
    assert.deepEqual(
      logprobs[0]!.top.map(({ id }) => id),
      best.slice(0, 2),
    )
    const difference = logits[best[0]!]! - logits[logprobs[0]!.id]!
    assert.ok(Math.abs(logprobs[0]!.top[0]!.logprob - logprobs[0]!.logprob - difference) < 1e-6)
    const told = events.find((event) => event.kind === 'prompt')
    assert.equal(told?.text, prompt.text)
    const second = promptTokenAt(told!.logprobs!, 1)
    assert.equal(second.id, tokens[1])
    const after = fakeLogits(tokens.slice(0, 1), 0)
    const rank = [...after].filter((logit) => logit > after[tokens[1]!]!).length + 1
    assert.equal(second.rank, rank)
    assert.equal(second.top.length, 2)
  })

  it('answers a request for its prompt alone without a stream', async () => {
    const { length: before } = fake.completions()
    const fields = { id: 'echo', prompt: text('hello'), promptLogprobs: 1, maxTokens: 0 }
    const events = await world.run(createRequest(fields))
    assert.deepEqual(
      events.map(({ kind }) => kind),
      ['accepted', 'prompt', 'choice_finished', 'done'],
    )
    assert.equal(fake.completions().length, before)
  })

  it('tells how much of the prompt was cached', async () => {
    const prompt = text(`hello ${'again and '.repeat(4)}`)
    await world.run(createRequest({ id: 'cold', prompt }))
    const events = await world.run(createRequest({ id: 'warm', prompt }))
    const done = events.at(-1)
    assert.ok(done?.kind === 'done' && done.cachedTokens >= 32, JSON.stringify(done))
  })

  it('splits thought and answer of a chat', async () => {
    replies.think = 'hm</think>yes'
    const prompt = { kind: 'messages', messages: [{ role: 'user', content: 'think' }] } as const
    const events = await world.run(createRequest({ id: 'chat', prompt, splitReasoning: true }))
    const of = (section: string) =>
      events
        .flatMap((event) =>
          event.kind === 'delta' && event.section === section ? [event.text] : [],
        )
        .join('')
    // The marker is a text of bytes here: tokens of its own are no bytes.
    assert.ok(of('reasoning').startsWith('hm'), JSON.stringify(events))
  })

  it('a cancelled request closes its connection and ends in cancelled', async () => {
    let goOn = () => {}
    const held = new Promise<void>((resolve) => (goOn = resolve))
    fake.state.beforeToken = (said) => (said === 3 ? held : undefined)
    const closed = fake.nextClosed()
    const running = world.run(createRequest({ id: 'gone', prompt: text('long'), maxTokens: 200 }))
    await world.until('a delta', () => world.eventsOf('gone').some(({ kind }) => kind === 'delta'))
    world.engine.cancel('gone')
    const events = await running
    await within(patience, 'closed connection', closed)
    goOn()
    fake.state.beforeToken = undefined
    assert.equal(events.at(-1)?.kind, 'cancelled')
    assert.equal(world.stats?.running, 0)
  })

  it('applies an adapter at a strength, and attests both', async () => {
    const adapters = [{ id: 'safe', scale: 0.5 }]
    const fields = { id: 'a', prompt: text('abyss'), adapters, topLogprobs: 1, maxTokens: 4 }
    const events = await world.run(createRequest(fields))
    assert.equal(failureIn(events), null)
    const accepted = events[0]
    assert.ok(accepted?.kind === 'accepted')
    const [applied] = accepted.adapters
    const { body } = fake.completions().at(-1)!
    assert.equal(body.model, `${applied!.digest.slice(0, 24)}@0.5`)
    const loaded = fake.adapters.get(body.model as string)!
    const full = await effectOf([{ id: 'safe', scale: 1 }])
    assert.ok(Math.abs(loaded.effect - full / 2) < 1e-5 * Math.abs(full))
  })

  it('applies two adapters as one, and strength 0 as the base', async () => {
    const both = [
      { id: 'safe', scale: 0.5 },
      { id: 'terse', scale: 2 },
    ]
    const one = await effectOf([{ id: 'safe', scale: 1 }])
    const two = await effectOf([{ id: 'terse', scale: 1 }])
    const sum = await effectOf(both)
    assert.ok(Math.abs(sum - (0.5 * one + 2 * two)) < 1e-4 * Math.abs(sum))
    const zero = [{ id: 'safe', scale: 0 }]
    await world.run(createRequest({ id: 'zero', prompt: text('hello'), adapters: zero }))
    assert.equal(fake.completions().at(-1)!.body.model, 'base-model')
  })

  it('rounds strengths up to hundredths, and says what it applies', async () => {
    const adapters = [{ id: 'safe', scale: 0.301 }]
    const events = await world.run(createRequest({ id: 'r', prompt: text('hello'), adapters }))
    assert.ok(events[0]?.kind === 'accepted')
    assert.equal(events[0].adapters[0]!.scale, 0.31)
  })

  describe('an answer of a given form', () => {
    const constraints = {
      json_object: [{ kind: 'json_object' }, { json_object: true }],
      json_schema: [
        { kind: 'json_schema', schema: '{"type":"object"}' },
        { json: '{"type":"object"}' },
      ],
      regex: [{ kind: 'regex', pattern: 'a+b' }, { regex: 'a+b' }],
      choice: [{ kind: 'choice', choices: ['yes', 'no'] }, { choice: ['yes', 'no'] }],
      grammar: [{ kind: 'grammar', text: 'root ::= "x"' }, { grammar: 'root ::= "x"' }],
    } as const
    for (const [kind, [constraint, asked]] of Object.entries(constraints)) {
      it(`${kind}: goes as structured_outputs, by vLLM's names`, async () => {
        const fields = { id: `form ${kind}`, prompt: text('hello'), constraint, maxTokens: 32 }
        const events = await world.run(createRequest(fields))
        assert.equal(failureIn(events), null)
        assert.deepEqual(fake.completions().at(-1)!.body.structured_outputs, asked)
        const said = kind === 'choice' ? 'yes' : '{"a":1}'
        assert.equal(textOfEvents(events), said)
        assert.equal(finishOf(events)?.reason, 'stop')
      })
    }

    const schema = { constraint: { kind: 'json_object' }, constraintField: 'guided_json' } as const
    const refused = async (id: string, fields: Parameters<typeof createRequest>[0]) => {
      const { length: before } = fake.completions()
      const failure = failureIn(await world.run(createRequest({ ...schema, id, ...fields })))
      assert.equal(failure?.code, 'unsupported_parameter')
      assert.equal(failure.param, 'guided_json')
      assert.equal(fake.completions().length, before)
      return failure.message
    }

    it('is refused by name where vLLM would not keep to it', async () => {
      const tools = [{ name: 'f', parameters: '{}' }]
      const marks = { begin: '<', end: '>', separator: '', maxCalls: 1 }
      const calls = { kind: 'tool_calls', tools, ...marks } as const
      assert.match(await refused('calls', { constraint: calls }), /calls of tools/)
      assert.match(await refused('eos', { sampling: { ignoreEos: true } }), /ignore_eos/)
      assert.match(await refused('min', { sampling: { minTokens: 3 } }), /min_tokens/)
    })

    it('is refused where a thought may come first, and for a grammar that is none', async () => {
      const messages = [{ role: 'user', content: 'hello' }] as const
      const prompt = { kind: 'messages', messages } as const
      const thinking = await world.run(
        createRequest({ ...schema, id: 'thinking', prompt, splitReasoning: true }),
      )
      // The template of this checkpoint opens a thought.
      assert.match(failureIn(thinking)?.message ?? '', /thought/)
      const broken = { kind: 'regex', pattern: 'a(' } as const
      const events = await world.run(createRequest({ id: 'broken', constraint: broken }))
      assert.equal(failureIn(events)?.code, 'invalid_value')
    })
  })

  it('named tokens come in place of the likeliest, and not beside them', async () => {
    const fields = { prompt: text('abyss'), maxTokens: 2, logprobTokens: [7, 3] }
    const events = await world.run(createRequest({ ...fields, id: 'named', topLogprobs: 0 }))
    const { body } = fake.completions().at(-1)!
    assert.deepEqual([body.logprobs, body.logprob_token_ids], [0, [7, 3]])
    const deltas = events.filter((event) => event.kind === 'delta')
    const [first] = deltas.flatMap((event) => event.logprobs ?? [])
    assert.deepEqual(
      first!.top.map(({ id }) => id),
      [7, 3],
    )
    const logits = fakeLogits(tokenizer.encode('abyss'), 0)
    const [seven, three] = first!.top
    const difference = logits[7]! - logits[3]!
    assert.ok(Math.abs(seven!.logprob - three!.logprob - difference) < 1e-6)
    const both = await world.run(createRequest({ ...fields, id: 'both', topLogprobs: 2 }))
    assert.equal(failureIn(both)?.param, 'logprob_token_ids')
    const logprobTokens = Array.from({ length: 129 }, (_, id) => id)
    const many = { ...fields, logprobTokens, id: 'many', topLogprobs: 0 }
    assert.match(failureIn(await world.run(createRequest(many)))!.message, /128 tokens/)
  })

  it('a seed that vLLM takes for none is sent as another', async () => {
    const sampling = { temperature: 1, seed: 2n ** 64n - 1n }
    await world.run(createRequest({ id: 'seedless', prompt: text('hello'), sampling }))
    assert.equal(fake.completions().at(-1)!.body.seed, '-2')
  })

  it('what may and may not be sampled goes along', async () => {
    const sampling = { allowedTokens: [65, fakeEnd], badWords: ['bad'] }
    await world.run(createRequest({ id: 'only', prompt: text('hello'), sampling }))
    const { body } = fake.completions().at(-1)!
    assert.deepEqual([body.allowed_token_ids, body.bad_words], [[65, fakeEnd], ['bad']])
  })

  it('sends no field that vLLM 0.32 does not know: those it would ignore', () => {
    const bodies = fake.calls.filter(({ path }) => path === '/v1/completions')
    const sent = new Set(bodies.flatMap(({ body }) => Object.keys(body)))
    assert.ok(sent.size >= 24, [...sent].join())
    for (const field of sent) assert.ok(completionFields.includes(field), field)
  })

  it('refuses what it cannot do, by name', async () => {
    const spans = [{ id: 'safe', scale: 1, span: 'answer' }] as const
    const span = await world.run(createRequest({ id: 's', adapters: spans }))
    assert.equal(failureIn(span)?.code, 'unsupported_parameter')
    assert.match(failureIn(span)!.message, /adapter\.from/)
    assert.deepEqual(world.engine.model.capabilities, {
      attestation: 'arranged',
      spans: false,
      verdicts: 'own_prefill',
      probe: false,
      constrained: 'without_thought',
    })
  })
})

/** Some of those of vLLM 0.32's CompletionRequest. */
const completionFields = [
  ...['model', 'prompt', 'stream', 'stream_options', 'max_tokens', 'min_tokens', 'seed'],
  ...['temperature', 'top_p', 'top_k', 'min_p', 'logit_bias', 'allowed_token_ids', 'bad_words'],
  ...['presence_penalty', 'frequency_penalty', 'repetition_penalty', 'stop_token_ids'],
  ...['ignore_eos', 'logprobs', 'logprob_token_ids', 'prompt_logprobs', 'structured_outputs'],
  ...['add_special_tokens', 'return_token_ids', 'return_tokens_as_token_ids'],
]

/** Of what the fake holds after a request with these. */
async function effectOf(adapters: readonly { id: string; scale: number }[]): Promise<number> {
  const id = `effect ${JSON.stringify(adapters)}`
  const events = await world.run(createRequest({ id, prompt: text('hello'), adapters }))
  assert.equal(failureIn(events), null)
  return fake.adapters.get(fake.completions().at(-1)!.body.model as string)!.effect
}
