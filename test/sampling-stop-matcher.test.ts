// Text on its way out, cut at every possible place: stop strings, code points.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createDetokenizer } from '../server/sampling/detokenizer.ts'
import { createStopMatcher } from '../server/sampling/stop-matcher.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import {
  bytesOf,
  byteTokenizer,
  certain,
  createRequest,
  createTestSequence,
  eos,
  textOf,
  thoughtEnd,
} from './support/scripted-model.ts'

/** Every way to cut the text into pieces; the text's length must be small. */
function* cuts(text: string): Generator<string[]> {
  for (let mask = 0; mask < 2 ** Math.max(0, text.length - 1); mask++) {
    const pieces: string[] = []
    let start = 0
    for (let i = 1; i <= text.length; i++) {
      if (i === text.length || mask & (1 << (i - 1))) {
        pieces.push(text.slice(start, i))
        start = i
      }
    }
    yield pieces
  }
}

/** Feeds the pieces until a stop is found; what was released piece by piece. */
function match(pieces: readonly string[], stops: readonly string[], includeStop = false) {
  const matcher = createStopMatcher({ stops, includeStop })
  const released: string[] = []
  for (const piece of pieces) {
    const { text, stop } = matcher.push(piece)
    released.push(text)
    if (stop !== null) return { text: released.join(''), stop, released }
  }
  released.push(matcher.flush())
  return { text: released.join(''), stop: null, released }
}

describe('stop strings', () => {
  for (const [stops, text, want, stop] of [
    [['END'], 'ab END cd', 'ab ', 'END'],
    [['END'], 'abEENDx', 'abE', 'END'],
    [['END'], 'ab EN ED', 'ab EN ED', null],
    [['aab'], 'aaaabaa', 'aa', 'aab'],
    [['abab'], 'abaababx', 'aba', 'abab'],
    [['\n\n'], 'a\nb\n\nc', 'a\nb', '\n\n'],
    [['🙂'], 'ab🙂cd', 'ab', '🙂'],
    [['x'], 'xyz', '', 'x'],
    // Overlapping stops: the first to be complete, the longest of those complete together.
    [['bcd', 'abcde'], 'xabcdef', 'xa', 'bcd'],
    [['abc', 'ab'], 'xabcy', 'x', 'ab'],
    [['cd', 'bcd'], 'abcde', 'a', 'bcd'],
    [['b', 'a'], 'xabx', 'x', 'a'],
  ] as const) {
    it(`${JSON.stringify(stops)} in ${JSON.stringify(text)}: the same however the text is cut`, () => {
      for (const pieces of cuts(text)) {
        const got = match(pieces, stops)
        const hint = JSON.stringify(pieces)
        assert.deepEqual([got.text, got.stop], [want, stop], hint)
      }
    })
  }

  it('are part of the text when that is asked for, and nothing after them is', () => {
    for (const pieces of cuts('ab STOP cd')) {
      assert.deepEqual(match(pieces, ['STOP'], true).text, 'ab STOP')
    }
  })

  it('of which none comes change nothing: what goes in comes out', () => {
    const random = createRandomNumbers(3)
    for (let round = 0; round < 2000; round++) {
      const text = Array.from({ length: 12 }, () => 'ab\n'[pick(random, 3)]).join('')
      const stops = [
        Array.from({ length: 1 + pick(random, 4) }, () => 'abc'[pick(random, 3)]).join(''),
        'bbac',
      ]
      const pieces = text.split(/(?=a)/)
      const at = Math.min(...stops.map((stop) => (text.indexOf(stop) + 1 || 1e9) - 1))
      const got = match(pieces, stops)
      if (at > 1e8) assert.equal(got.text, text, `${stops} in ${text}`)
      else assert.ok(got.stop !== null && !got.text.includes(got.stop), `${stops} in ${text}`)
      assert.ok(text.startsWith(got.text))
    }
  })

  it('hold back no more than what may become one', () => {
    const matcher = createStopMatcher({ stops: ['STOP', 'ST!'], includeStop: false })
    assert.equal(matcher.push('abS').text, 'ab')
    assert.equal(matcher.push('T').text, '')
    assert.equal(matcher.push('x').text, 'STx')
    assert.equal(matcher.push('STO').text, '')
    assert.equal(matcher.flush(), 'STO')
    assert.equal(matcher.flush(), '')
  })
})

describe('stop strings and special tokens', () => {
  const hiddenTexts = ['<|end|>', '<|en']

  function matchTokens(tokens: readonly string[], stop: string, includeStop = false) {
    const matcher = createStopMatcher({ stops: [stop], includeStop, hiddenTexts })
    let text = ''
    for (const token of tokens) {
      const piece = hiddenTexts.includes(token) ? matcher.signOf(token) : token
      const found = matcher.push(piece)
      text += found.text
      if (found.stop !== null) return { text, stop: found.stop }
    }
    return { text: text + matcher.flush(), stop: null }
  }

  it('a special token ends the text where its text is a stop string, or part of one', () => {
    assert.deepEqual(matchTokens(['a', '<|end|>', 'b'], '<|end|>'), { text: 'a', stop: '<|end|>' })
    const longer = '\n<|end|>\n'
    assert.deepEqual(matchTokens(['a\n', '<|end|>', '\n'], longer), { text: 'a', stop: longer })
    assert.deepEqual(matchTokens(['a\n', '<|end|>', 'b'], longer), { text: 'a\nb', stop: null })
  })

  it('the same characters of other tokens end it too, and the stop string shows when asked for', () => {
    assert.equal(matchTokens(['a<|e', 'nd|>b'], '<|end|>').text, 'a')
    assert.equal(matchTokens(['a', '<|end|>', 'b'], '<|end|>', true).text, 'a<|end|>')
    assert.equal(matchTokens(['a<|e', 'nd|>b'], '<|end|>', true).text, 'a<|end|>')
  })

  it('what is not shown meets no other stop string', () => {
    assert.deepEqual(matchTokens(['a', '<|end|>', 'b'], '|'), { text: 'ab', stop: null })
    assert.deepEqual(matchTokens(['𐀀', '<|end|>', '𐀀'], '\n<|end|>'), { text: '𐀀𐀀', stop: null })
  })
})

describe('stop strings in a sequence', () => {
  /** Runs byte tokens through a sequence; the events' text and the end. */
  function run(reply: readonly number[], sampling: object, maxTokens = 64) {
    const sequence = createTestSequence(createRequest({ sampling, maxTokens }))
    const events = []
    for (const token of reply) {
      events.push(...sequence.accept(certain(token)))
      if (sequence.isFinished) break
    }
    const end = events.find((event) => event.kind === 'choice_finished')
    return { text: textOf(events), end, events }
  }

  it('never leak, be they ended by the stop, the length or the end token', () => {
    const stopped = run(bytesOf('one STOP two'), { stop: ['STOP'] })
    assert.equal(stopped.text, 'one ')
    assert.equal(stopped.end?.reason, 'stop')
    assert.equal(stopped.end?.stopReason, 'STOP')
    assert.equal(stopped.end?.usage.completionTokens, 8)

    const cut = run(bytesOf('one STOP two'), { stop: ['STOP'] }, 7)
    assert.equal(cut.text, 'one STO')
    assert.equal(cut.end?.reason, 'length')

    const ended = run([...bytesOf('one ST'), eos], { stop: ['STOP'] })
    assert.equal(ended.text, 'one ST')
    assert.equal(ended.end?.reason, 'stop')
    assert.equal(ended.end?.stopReason, null)
  })

  it('that are complete with the very last token count as a stop, not as the length', () => {
    const { text, end } = run(bytesOf('a STOP'), { stop: ['STOP'] }, 6)
    assert.equal(text, 'a ')
    assert.equal(end?.reason, 'stop')
  })

  it('are included, once, when the client asks', () => {
    const { text } = run(bytesOf('a STOP b'), { stop: ['STOP'], includeStopInOutput: true })
    assert.equal(text, 'a STOP')
  })

  it('a stop token ends without its text, is named, and is included when asked for', () => {
    const sampling = { stopTokenIds: [33] }
    const without = run(bytesOf('hey! you'), sampling)
    assert.equal(without.text, 'hey')
    assert.equal(without.end?.stopReason, 33)
    assert.equal(run(bytesOf('hey! you'), { ...sampling, includeStopInOutput: true }).text, 'hey!')
  })

  it('every token is told in exactly one delta, with its log-probabilities', () => {
    const request = createRequest({ topLogprobs: 0, sampling: { stop: ['lo w'] } })
    const sequence = createTestSequence(request)
    const events = bytesOf('hello w').flatMap((token) => sequence.accept(certain(token)))
    const deltas = events.filter((event) => event.kind === 'delta')
    assert.equal(
      deltas.reduce((sum, { numTokens }) => sum + numTokens, 0),
      7,
    )
    assert.deepEqual(
      deltas.flatMap(({ logprobs }) => logprobs ?? []).map(({ id }) => id),
      bytesOf('hello w'),
    )
  })
})

describe('code points', () => {
  it('come out whole: an emoji over four tokens shows with the fourth', () => {
    const detokenizer = createDetokenizer(byteTokenizer)
    const pieces = bytesOf('a🙂b').map((byte) => detokenizer.push(byte))
    assert.deepEqual(pieces, ['a', '', '', '', '🙂', 'b'])
    assert.equal(detokenizer.flush(), '')
  })

  it('survive every text: joined emoji, CJK, combining marks, a byte order mark, NUL', () => {
    for (const text of [
      '👩‍👩‍👧‍👦!',
      '漢字かな',
      'e\u0301x',
      '\uFEFFa',
      'a\0b',
      '\u{10FFFF}',
      '\r\n',
    ]) {
      const detokenizer = createDetokenizer(byteTokenizer)
      const pieces = bytesOf(text).map((byte) => detokenizer.push(byte))
      assert.equal(pieces.join(''), text)
      for (const piece of pieces) assert.ok(piece.isWellFormed() && !piece.includes('\uFFFD'))
    }
  })

  it('that are unfinished at the end show as U+FFFD, also in a sequence that ends by length', () => {
    const detokenizer = createDetokenizer(byteTokenizer)
    const [first = 0, second = 0] = bytesOf('🙂')
    assert.equal(detokenizer.push(first) + detokenizer.push(second), '')
    assert.equal(detokenizer.flush(), '\uFFFD')

    const sequence = createTestSequence(createRequest({ maxTokens: 3 }))
    const events = [97, first, second].flatMap((token) => sequence.accept(certain(token)))
    assert.equal(textOf(events), 'a\uFFFD')
  })

  it('that are broken show as U+FFFD at once and the text goes on', () => {
    const detokenizer = createDetokenizer(byteTokenizer)
    const pieces = [0xff, 97, 0xf0, 0x9f, 98].map((byte) => detokenizer.push(byte))
    assert.equal(pieces.join(''), '\uFFFDa\uFFFDb')
  })

  it('special tokens give no text, the marks of a thought do', () => {
    const detokenizer = createDetokenizer(byteTokenizer)
    assert.equal(detokenizer.push(eos), '')
    assert.equal(detokenizer.push(thoughtEnd), '</think>')
  })
})
