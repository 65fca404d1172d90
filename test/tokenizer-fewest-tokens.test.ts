// The bound from below holds for every text, and is close where texts are made to be costly.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createFewestTokens } from '../server/tokenizer/fewest-tokens.ts'
import { loadTokenizer } from '../server/tokenizer/tokenizer.ts'
import { writeByteTokenizer } from './support/byte-tokenizer.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
writeByteTokenizer(temp)

const pieces = [
  ...['a', 'Q', ' ', '  ', '\n', '7', 'é', 'e\u0301', '语', '🦆', ' the', 'multiplied', '</think>'],
  ...['<｜User｜>', '\u0000', '\u0344', 'ﬁ', '½', '\ud800'],
]

for (const [name, dir] of [
  ['bytes', temp],
  ['tiny-reasoner', 'models/tiny-reasoner'],
] as const) {
  const tokenizer = loadTokenizer(dir)
  const fewestTokens = createFewestTokens(tokenizer)

  describe(`the fewest tokens of a text, ${name}`, () => {
    it('are never more than it has: 2,000 random texts', () => {
      const random = createRandomNumbers(5)
      for (let i = 0; i < 2000; i++) {
        const length = 1 + pick(random, 60)
        const text = Array.from({ length }, () => pieces[pick(random, pieces.length)]).join('')
        const tokens = tokenizer.encode(text)
        assert.ok(fewestTokens(text) <= tokens.length, JSON.stringify(text))
      }
    })

    it('are never more than it has: the texts of its own tokens', () => {
      for (let id = 0; id < tokenizer.vocabSize; id++) {
        const text = tokenizer.tokenText(id).repeat(20)
        assert.ok(fewestTokens(text) <= tokenizer.encode(text).length, JSON.stringify(text))
      }
    })

    it('are a twentieth of what it has at least, for long runs of one character', () => {
      for (const char of ['7', ' ', 'x', '.', '\n']) {
        const text = char.repeat(20_000)
        const tokens = tokenizer.encode(text).length
        assert.ok(fewestTokens(text) * 20 >= tokens, `${JSON.stringify(char)}: ${tokens}`)
      }
    })
  })
}
