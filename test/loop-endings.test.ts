// The rules that end a choice, each against each: which comes first, what is shown, what is named. Their
// order is in server/loop/output.ts.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { SamplingParams } from '../server/contracts/generation.ts'
import {
  bytesOf,
  certain,
  createRequest,
  createTestSequence,
  eos,
  textOf,
  thoughtEnd,
  thoughtStart,
} from './support/scripted-model.ts'

const A = 65

interface Given extends Partial<SamplingParams> {
  readonly maxTokens?: number
  readonly chat?: boolean
}

/** Feeds the tokens until the end; a forbidden token gives way to "A". */
function run(reply: readonly number[], { maxTokens = 64, chat = false, ...sampling }: Given) {
  const request = createRequest({ sampling, maxTokens, splitReasoning: chat, topLogprobs: 0 })
  const sequence = createTestSequence(request, { phase: chat ? 'opened' : 'answering' })
  const events = []
  for (const token of reply) {
    const logits = certain(token)
    logits[A] = 10
    events.push(...sequence.accept(logits))
    if (sequence.isFinished) break
  }
  const end = events.at(-1)
  assert.ok(end?.kind === 'choice_finished', 'the choice did not end')
  const deltas = events.filter((event) => event.kind === 'delta')
  const { completionTokens, reasoningTokens } = end.usage
  const told = (section: string) =>
    deltas.reduce((sum, delta) => sum + (delta.section === section ? delta.numTokens : 0), 0)
  assert.deepEqual([told('reasoning') + told('content')], [completionTokens])
  assert.equal(told('reasoning'), reasoningTokens)
  assert.equal(deltas.flatMap(({ logprobs }) => logprobs ?? []).length, completionTokens)
  return [textOf(events), end.reason, end.stopReason, completionTokens]
}

const text = (reply: string) => [...bytesOf(reply), eos]

describe('min_tokens comes before', () => {
  it('the end token: it is not sampled until then', () => {
    assert.deepEqual(run([eos, eos, eos], { minTokens: 2 }), ['AA', 'stop', null, 3])
  })

  it('a stop token id', () => {
    assert.deepEqual(run([33, 33, 33], { minTokens: 2, stopTokenIds: [33] }), ['AA', 'stop', 33, 3])
  })

  it('a stop string: one that is complete by then is text, one that is complete later counts', () => {
    const stop = ['b']
    assert.deepEqual(run(text('ababab'), { minTokens: 3, stop }), ['aba', 'stop', 'b', 4])
    assert.deepEqual(run(text('ababab'), { minTokens: 4, stop }), ['ababa', 'stop', 'b', 6])
    assert.deepEqual(run(text('aaxaa'), { minTokens: 2, stop: ['aa', 'xa'] })[0], 'aa')
    // Complete with the third token, begun before.
    assert.deepEqual(run(text('xaa'), { minTokens: 2, stop: ['aa'] }), ['x', 'stop', 'aa', 3])
    assert.deepEqual(run(text('xaa'), { minTokens: 3, stop: ['aa'] }), ['xaa', 'stop', null, 4])
    // A shorter one within one that may still come was too early, and stays text.
    assert.deepEqual(run(text('abx'), { minTokens: 2, stop: ['b', 'abc'] })[0], 'abx')
  })

  it('but not before the end of the context', () => {
    assert.deepEqual(run(text('abc'), { minTokens: 9, maxTokens: 2 }), ['ab', 'length', null, 2])
  })

  it('a mark as a stop string', () => {
    const reply = [...bytesOf('so'), thoughtEnd, ...text('yes')]
    const given = { chat: true, stop: ['</think>'] }
    assert.deepEqual(run(reply, { ...given, minTokens: 2 }), ['', 'stop', '</think>', 3])
    assert.deepEqual(run(reply, { ...given, minTokens: 3 }), ['yes', 'stop', null, 7])
  })
})

describe('an end token comes before', () => {
  it('a stop token id, which names the end where it is the same token', () => {
    assert.deepEqual(run(text('a'), { stopTokenIds: [eos] }), ['a', 'stop', eos, 2])
    assert.deepEqual(run(text('a!b'), { stopTokenIds: [33] }), ['a', 'stop', 33, 2])
    assert.deepEqual(run(text('a'), { stopTokenIds: [33] }), ['a', 'stop', null, 2])
  })

  it('a stop string that its text would complete', () => {
    const given = { stopTokenIds: [33], stop: ['a!'] }
    assert.deepEqual(run(text('a!b'), given), ['a', 'stop', 33, 2])
    const included = { ...given, includeStopInOutput: true }
    assert.deepEqual(run(text('a!b'), included), ['a!', 'stop', 33, 2])
  })

  it('the length, with the same token', () => {
    assert.deepEqual(run(text('ab'), { maxTokens: 3 }), ['ab', 'stop', null, 3])
    assert.deepEqual(run(text('a!'), { maxTokens: 2, stopTokenIds: [33] }), ['a', 'stop', 33, 2])
  })

  it('but a stop string in the text before it came earlier', () => {
    const [first = 0] = bytesOf('é')
    const given = { stop: ['\uFFFD'] }
    assert.deepEqual(run([A, first, eos], given), ['A', 'stop', '\uFFFD', 3])
  })

  it('and half a stop string before it is text', () => {
    assert.deepEqual(run(text('a ST'), { stop: ['STOP'] }), ['a ST', 'stop', null, 5])
  })

  it('is named by the stop string that is its text', () => {
    const given = { stop: ['<eos>'] }
    assert.deepEqual(run(text('a'), given), ['a', 'stop', '<eos>', 2])
    const included = { ...given, includeStopInOutput: true }
    assert.deepEqual(run(text('a'), included), ['a<eos>', 'stop', '<eos>', 2])
    assert.deepEqual(run(text('a'), { ...given, ignoreEos: true }), ['a', 'stop', '<eos>', 2])
    const asId = { ...given, stopTokenIds: [eos] }
    assert.deepEqual(run(text('a'), asId), ['a', 'stop', eos, 2])
    // Within the thought the end token ends as it always does.
    assert.deepEqual(run(text('a'), { ...given, chat: true }), ['', 'stop', null, 2])
  })

  it('ignore_eos leaves all other rules', () => {
    const reply = [A, eos, ...text('b!')]
    assert.deepEqual(run(reply, { ignoreEos: true, stop: ['b'] }), ['A', 'stop', 'b', 3])
    assert.deepEqual(run(reply, { ignoreEos: true, stopTokenIds: [33] })[2], 33)
    assert.deepEqual(run(reply, { ignoreEos: true, maxTokens: 3 }), ['Ab', 'length', null, 3])
  })
})

describe('a stop string comes before', () => {
  it('the length, with the same token', () => {
    assert.deepEqual(run(text('a STOP'), { stop: ['STOP'], maxTokens: 6 })[1], 'stop')
    assert.deepEqual(run(text('a STOP'), { stop: ['STOP'], maxTokens: 5 }), [
      'a STO',
      'length',
      null,
      5,
    ])
  })

  it('the length, when only the end of the reply completes it', () => {
    const [first = 0] = bytesOf('é')
    assert.deepEqual(run([A, first], { stop: ['\uFFFD'], maxTokens: 2 })[2], '\uFFFD')
  })
})

describe('in a chat', () => {
  const reply = [...bytesOf('12\n\n'), thoughtEnd, ...text('\n\na 12\n\nb')]

  it('each rule but stop strings ends the thought too', () => {
    const chat = true
    assert.deepEqual(run(reply, { chat, maxTokens: 2 }), ['', 'length', null, 2])
    assert.deepEqual(run(reply, { chat, stopTokenIds: [50] }), ['', 'stop', 50, 2])
    assert.deepEqual(run([A, eos], { chat }), ['', 'stop', null, 2])
    assert.deepEqual(run(reply, { chat, stop: ['12'] }).slice(0, 3), ['a ', 'stop', '12'])
    assert.deepEqual(run(reply, { chat, stop: ['\n\n'] }).slice(0, 3), ['a 12', 'stop', '\n\n'])
  })

  it('a stop token id that closes the thought closes it, whatever opened it', () => {
    const given = { splitReasoning: true, sampling: { stopTokenIds: [thoughtEnd] } }
    for (const phase of ['opened', 'beginning'] as const) {
      const sequence = createTestSequence(createRequest(given), { phase })
      const events = [A, thoughtEnd].flatMap((token) => sequence.accept(certain(token)))
      assert.equal(textOf(events, { section: 'reasoning' }), 'A', phase)
      assert.equal(textOf(events), '')
    }
  })
})

describe('tokens are counted with the section that their text is of', () => {
  function count(tokens: readonly number[], phase: 'beginning' | 'opened' | 'closed') {
    const request = createRequest({ splitReasoning: true, topLogprobs: 0, maxTokens: 64 })
    const sequence = createTestSequence(request, { phase })
    const events = tokens.flatMap((token) => sequence.accept(certain(token)))
    const end = events.at(-1)
    assert.ok(end?.kind === 'choice_finished')
    const deltas = events.filter((event) => event.kind === 'delta')
    assert.equal(deltas.flatMap(({ logprobs }) => logprobs ?? []).length, tokens.length)
    const told = deltas.map(({ section, numTokens }) => (section === 'reasoning' ? numTokens : 0))
    const reasoning = told.reduce((sum, one) => sum + one, 0)
    assert.equal(reasoning, end.usage.reasoningTokens)
    assert.equal(end.usage.completionTokens, tokens.length)
    return { numReasoning: reasoning, events }
  }

  it('with its marks, whether prompt or reply opened it, and where nothing did', () => {
    const rest = [...bytesOf('so'), thoughtEnd, ...text('\nYes')]
    assert.equal(count(rest, 'opened').numReasoning, 3)
    assert.equal(count([thoughtStart, ...rest], 'beginning').numReasoning, 4)
    assert.equal(count([10, thoughtStart, ...rest], 'beginning').numReasoning, 5)
    assert.equal(count(rest, 'beginning').numReasoning, 3)
    assert.equal(count([thoughtStart, ...rest], 'closed').numReasoning, 4)
    assert.equal(count(text('Yes'), 'closed').numReasoning, 0)
  })

  it('and are told when that is known: a reply that opens nothing comes at its end', () => {
    const { numReasoning, events } = count(text('Yes'), 'beginning')
    assert.equal(numReasoning, 0)
    assert.equal(textOf(events), 'Yes')
    assert.deepEqual(
      events.map((event) => (event.kind === 'delta' ? event.numTokens : event.kind)),
      [4, 'choice_finished'],
    )
  })
})
