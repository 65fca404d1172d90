// A reply in two sections: where a thought begins and ends, and which text stop strings see. Replies are
// lists of tokens of the scripted model: bytes, and <think>, </think> where it has them as tokens.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ReplyPhase } from '../server/contracts/thought.ts'
import { createReplyParser, type ReplyTokens } from '../server/sampling/reply-parser.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import { bytesOf, byteTokenizer, eos, thoughtEnd, thoughtStart } from './support/scripted-model.ts'

const [open, close] = [thoughtStart, thoughtEnd]

/** A tokenizer whose tokens are any pieces of text, and that has no marks of a thought. */
function textTokenizer(pieces: readonly string[]): ReplyTokens {
  return {
    tokenBytes: (id) => Buffer.from(pieces[id] ?? ''),
    isSpecial: () => false,
    specialTexts: [],
    idOf: () => undefined,
  }
}

interface Given {
  readonly phase?: ReplyPhase
  readonly stops?: readonly string[]
  readonly includeStop?: boolean
  readonly splits?: boolean
  readonly tokenizer?: ReplyTokens
}

/** Feeds the reply until a stop string is found. */
function parse(tokens: readonly number[], given: Given = {}) {
  const parser = createReplyParser({
    tokenizer: given.tokenizer ?? byteTokenizer,
    phase: given.phase ?? 'opened',
    splits: given.splits ?? true,
    stops: given.stops ?? [],
    includeStop: given.includeStop ?? false,
  })
  const all = { reasoning: '', content: '', stop: null as string | null }
  for (const token of [...tokens, null]) {
    const part = token === null ? parser.finish() : parser.push(token)
    all.reasoning += part.reasoning
    all.content += part.content
    all.stop = part.stop
    if (part.stop !== null) break
  }
  return all
}

/** A reply as written here; the marks in it are tokens. */
function tokensOf(reply: string): number[] {
  return reply.split(/(<think>|<\/think>)/).flatMap((piece) => {
    if (piece === '<think>') return [open]
    return piece === '</think>' ? [close] : bytesOf(piece)
  })
}

/** The reply in pieces of text. */
function parsePieces(pieces: readonly string[], given: Given = {}) {
  return parse([...pieces.keys()], { ...given, tokenizer: textTokenizer(pieces) })
}

// Reply, phase, and what it says where the marks are tokens; then, where it differs, where they are text.
type Row = readonly [string, ReplyPhase, readonly [string, string], (readonly [string, string])?]
const rows: readonly Row[] = [
  // The prompt opened the thought.
  ['so.</think>Yes', 'opened', ['so.', 'Yes']],
  ['\nso.\n</think>\n\nYes\n\nNo\n', 'opened', ['so.', 'Yes\n\nNo\n']],
  ['a\r\n</think>\r\n\r\nb', 'opened', ['a', 'b']],
  ['a\n\nb\n\n</think>\n', 'opened', ['a\n\nb', '']],
  ['</think>Yes', 'opened', ['', 'Yes']],
  ['\n</think>\nYes', 'opened', ['', 'Yes']],
  ['a</think', 'opened', ['a</think', '']],
  ['a\n</thinks>b', 'opened', ['a\n</thinks>b', '']],
  ['a<</think>b', 'opened', ['a<', 'b']],
  ['never ends\n\n', 'opened', ['never ends\n\n', '']],
  ['', 'opened', ['', '']],
  // It opens it again, at once or later.
  ['<think>\na</think>b', 'opened', ['a', 'b']],
  ['\n<think><think>a</think>b', 'opened', ['a', 'b']],
  ['a<think>b</think>c', 'opened', ['a<think>b', 'c']],
  // It closes it twice, or opens a second one.
  ['x</think>y</think>z', 'opened', ['x', 'y</think>z']],
  ['x</think></think>z', 'opened', ['x', '</think>z']],
  ['x</think>y<think>z</think>!', 'opened', ['x', 'y<think>z</think>!']],
  ['x</think>\n<think>z</think>!', 'opened', ['x', '<think>z</think>!']],
  // In the middle of a thought or an answer, which the reply continues.
  ['\nso\n</think>\nYes', 'thinking', ['\nso', 'Yes']],
  ['<think>a</think>b', 'thinking', ['<think>a', 'b']],
  ['\nYes</think>', 'answering', ['', '\nYes</think>']],
  ['<think>a</think>b', 'answering', ['', '<think>a</think>b']],
  // The reply opens the thought itself, or not.
  ['<think>\nso\n</think>\n\nYes', 'beginning', ['so', 'Yes']],
  [' \n<think>so</think>Yes', 'beginning', ['so', 'Yes']],
  ['<think>\n\n</think>\n\nYes', 'beginning', ['', 'Yes']],
  ['<think>never ends', 'beginning', ['never ends', '']],
  ['\n\nYes', 'beginning', ['', '\n\nYes']],
  ['Yes <thi', 'beginning', ['', 'Yes <thi']],
  ['<thinking>', 'beginning', ['', '<thinking>']],
  ['Say <think> please', 'beginning', ['', 'Say <think> please']],
  ['</think>Yes', 'beginning', ['', 'Yes']],
  [' \n', 'beginning', ['', ' \n']],
  // A thought that nothing opened.
  [' 2+2\n</think>\n\n4', 'beginning', [' 2+2', '4'], ['', ' 2+2\n</think>\n\n4']],
  ['a<think>b</think>c', 'beginning', ['a<think>b', 'c'], ['', 'a<think>b</think>c']],
  // The prompt closed it.
  ['\n\nYes', 'closed', ['', 'Yes']],
  ['\n<think>\nso</think>Yes', 'closed', ['so', 'Yes']],
  ['Yes<think>so</think>', 'closed', ['', 'Yes<think>so</think>']],
  ['</think>Yes', 'closed', ['', '</think>Yes']],
]

describe('a reply', () => {
  for (const [reply, phase, [reasoning, content], asText] of rows) {
    it(`${JSON.stringify(reply)} after ${phase} reads the same however it is cut`, () => {
      assert.deepEqual(parse(tokensOf(reply), { phase }), { reasoning, content, stop: null })
      const [thought, answer] = asText ?? [reasoning, content]
      const want = { reasoning: thought, content: answer, stop: null }
      for (let i = 0; i <= reply.length; i++) {
        for (let j = i; j <= reply.length; j++) {
          const pieces = [reply.slice(0, i), reply.slice(i, j), reply.slice(j)]
          assert.deepEqual(parsePieces(pieces, { phase }), want, JSON.stringify(pieces))
        }
      }
      assert.deepEqual(parsePieces([...reply], { phase }), want)
    })
  }

  it('spells a mark without meaning it, where the mark is a token', () => {
    const spelled = [...bytesOf('a</think>b'), close, ...bytesOf('c')]
    assert.deepEqual(parse(spelled), { reasoning: 'a</think>b', content: 'c', stop: null })
  })

  it('is the answer as a whole where nothing is split', () => {
    const { reasoning, content } = parse(tokensOf('<think>a\n</think>\nb'), { splits: false })
    assert.deepEqual([reasoning, content], ['', '<think>a\n</think>\nb'])
  })

  it('shows an unfinished code point before a mark on the mark’s near side', () => {
    const [first = 0] = bytesOf('é')
    const reply = [first, close, ...bytesOf('b'), first]
    assert.deepEqual(parse(reply), { reasoning: '\uFFFD', content: 'b\uFFFD', stop: null })
  })
})

describe('stop strings in a chat', () => {
  const says = (reply: string, stops: readonly string[], given: Given = {}) =>
    Object.values(parse(tokensOf(reply), { stops, ...given }))

  it('never act within the thought, nor on its marks and the newlines beside them', () => {
    const reply = 'so 12\n\nso\n\n</think>\n\nThe answer'
    for (const stop of ['\n\n', '12', '>', '#', ';', 'think', '\n']) {
      assert.deepEqual(says(reply, [stop]), ['so 12\n\nso', 'The answer', null], stop)
      assert.deepEqual(says(`<think>${reply}`, [stop], { phase: 'beginning' })[1], 'The answer')
      assert.deepEqual(says(reply, [stop], { phase: 'beginning' })[1], 'The answer')
    }
  })

  it('act on the answer, also where no thought came', () => {
    assert.deepEqual(says('so\n\n</think>\n\na\n\nb', ['\n\n']), ['so', 'a', '\n\n'])
    assert.deepEqual(says('a\n\nb', ['\n\n'], { phase: 'beginning' }), ['', 'a', '\n\n'])
    assert.deepEqual(says('\n\na\n\nb', ['\n\n'], { phase: 'closed' }), ['', 'a', '\n\n'])
  })

  it('do not span thought and answer', () => {
    assert.deepEqual(says('so</think>Yes', ['soYes']), ['so', 'Yes', null])
    assert.deepEqual(says('so</think>Yes', ['so</think>']), ['so', 'Yes', null])
  })

  it('that are a mark end the reply at that mark', () => {
    assert.deepEqual(says('so</think>Yes', ['</think>']), ['so', '', '</think>'])
    assert.deepEqual(says('so</think>Yes', ['</think>'], { includeStop: true })[1], '</think>')
    assert.deepEqual(says('<think>a', ['<think>'], { phase: 'beginning' }), ['', '', '<think>'])
    const { stop } = parsePieces(['so</th', 'ink>Yes'], { stops: ['</think>'] })
    assert.equal(stop, '</think>')
  })

  it('that are a special token’s text end the answer at that token, not the thought', () => {
    const reply = [...bytesOf('so'), eos, close, ...bytesOf('a'), eos, ...bytesOf('b')]
    const given = { stops: ['<eos>'] }
    assert.deepEqual(parse(reply, given), { reasoning: 'so', content: 'a', stop: '<eos>' })
    assert.equal(parse(reply, { ...given, includeStop: true }).content, 'a<eos>')
    assert.equal(parse(reply).content, 'ab')
  })

  it('see all the text where nothing is split', () => {
    const given = { splits: false, stops: ['</think>'] }
    assert.deepEqual(parse(tokensOf('a\n</think>b'), given), {
      reasoning: '',
      content: 'a\n',
      stop: '</think>',
    })
  })
})

describe('replies at random', () => {
  const words = [
    '<think>',
    '</think>',
    '<thi',
    'nk>',
    '</',
    '<',
    'a',
    'ab',
    '\n',
    '\n\n',
    ' ',
    '🙂',
  ]
  const stopStrings = ['\n\n', 'ab', 'ba', '</think>', '<think>', '>', ' a', 'nk>a', '\n<']
  const phases: readonly ReplyPhase[] = ['beginning', 'opened', 'thinking', 'closed', 'answering']

  /** Pieces of the text, cut at random. */
  function cut(text: string, random: () => number): string[] {
    const chars = [...text]
    const pieces: string[] = []
    while (chars.length > 0) {
      pieces.push(chars.splice(0, 1 + pick(random, random() < 0.5 ? 2 : 9)).join(''))
    }
    return pieces
  }

  it('read the same in pieces as whole, with marks as text (20,000 of them)', () => {
    const random = createRandomNumbers(14)
    for (let round = 0; round < 20_000; round++) {
      const text = Array.from({ length: pick(random, 14) }, () => {
        return words[pick(random, words.length)]
      }).join('')
      const stops = Array.from({ length: pick(random, 3) }, () => {
        return stopStrings[pick(random, stopStrings.length)]!
      })
      const given = {
        phase: phases[pick(random, phases.length)]!,
        stops,
        includeStop: round % 3 === 0,
        splits: round % 7 !== 0,
      }
      const whole = parsePieces([text], given)
      const pieces = cut(text, random)
      assert.deepEqual(parsePieces(pieces, given), whole, JSON.stringify([given, text, pieces]))
    }
  })

  it('read the same as bytes as in larger tokens, with marks as tokens (20,000 of them)', () => {
    const random = createRandomNumbers(15)
    for (let round = 0; round < 20_000; round++) {
      const parts = Array.from({ length: pick(random, 14) }, () => {
        return words[pick(random, words.length)]!
      })
      const given = {
        phase: phases[pick(random, phases.length)]!,
        stops: Array.from({ length: pick(random, 3) }, () => {
          return stopStrings[pick(random, stopStrings.length)]!
        }),
        includeStop: round % 3 === 0,
      }
      // 259 and 257 are the marks; each other word is a token of its own, or its bytes.
      const isMark = (word: string) => word === '<think>' || word === '</think>'
      const tokenizer: ReplyTokens = {
        ...byteTokenizer,
        isSpecial: (id) => id < 1000 && byteTokenizer.isSpecial(id),
        tokenBytes: (id) =>
          id < 1000 ? byteTokenizer.tokenBytes(id) : Buffer.from(words[id - 1000]!),
      }
      const coarse = parts.flatMap((word) => {
        return isMark(word) ? tokensOf(word) : [1000 + words.indexOf(word)]
      })
      const fine = parts.flatMap((word) => (isMark(word) ? tokensOf(word) : bytesOf(word)))
      const hint = JSON.stringify([given, parts])
      assert.deepEqual(parse(fine, given), parse(coarse, { ...given, tokenizer }), hint)
    }
  })
})
