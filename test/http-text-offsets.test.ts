// text_offset: where each token begins in the joined text, in code points, whatever the tokens' borders.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createTextOffsets } from '../server/http/reply/text-offsets.ts'
import { createRandomNumbers } from './support/random-numbers.ts'

const toToken = (bytes: Iterable<number>) => ({ bytes: [...bytes] })
const bytesOf = (text: string) => [...Buffer.from(text)]

/** Cuts after these bytes. */
function cut(bytes: readonly number[], ...ends: number[]) {
  const borders = [0, ...ends, bytes.length]
  return ends.concat(bytes.length).map((end, i) => toToken(bytes.slice(borders[i], end)))
}

describe('text_offset', () => {
  it('counts code points: a character of four bytes in two tokens is one', () => {
    const tokens = cut(bytesOf('a😀b'), 1, 3, 5)
    assert.deepEqual(createTextOffsets().next(tokens), [0, 1, 1, 2])
    assert.deepEqual(createTextOffsets().ofPrompt(tokens, 'a😀b'), [0, 1, 1, 2])
  })

  it('a half that is never whole is one U+FFFD, and what follows begins after it', () => {
    const tokens = [[0x61], [0xf0, 0x9f], [0x62], [0x63]].map(toToken)
    assert.deepEqual(createTextOffsets().next(tokens), [0, 1, 2, 3])
  })

  it('goes on after a prompt that ends halfway', () => {
    const offsets = createTextOffsets()
    const prompt = [toToken([0x61]), toToken([0xf0, 0x9f])]
    assert.deepEqual(offsets.ofPrompt(prompt, 'a\uFFFD'), [0, 1])
    assert.equal(offsets.numChars, 2)
    assert.deepEqual(offsets.next([toToken([0x98, 0x80]), toToken([0x62])]), [2, 4])
  })

  it('special tokens around a prompt, and hidden ones in an answer, take no room', () => {
    const offsets = createTextOffsets()
    const prompt = ['<s>', 'hé', '</s>'].map((text) => toToken(Buffer.from(text)))
    assert.deepEqual(offsets.ofPrompt(prompt, 'hé'), [0, 0, 2])
    const hidden = { bytes: bytesOf('<e>'), hidden: true as const }
    assert.deepEqual(
      offsets.next([toToken(bytesOf('x')), hidden, toToken(bytesOf('y'))]),
      [2, 3, 3],
    )
  })

  it('holds for random texts and cuts: the text from each offset on begins with the token', () => {
    const random = createRandomNumbers(7)
    const alphabet = ['a', 'é', '€', '😀', '👨‍👩‍👧', '\u0301', '中', '\n']
    for (let round = 0; round < 500; round++) {
      const length = 1 + Math.floor(random() * 12)
      const text = Array.from({ length }, () => alphabet[Math.floor(random() * 8)]!).join('')
      const bytes = bytesOf(text)
      const ends = bytes.map((_, i) => i).filter((i) => i > 0 && random() < 0.4)
      const tokens = cut(bytes, ...ends)
      const starts = createTextOffsets().next(tokens)
      assert.deepEqual(createTextOffsets().ofPrompt(tokens, text), starts)
      let at = 0
      for (const [i, token] of tokens.entries()) {
        // The character that the token's first byte belongs to.
        let first = at
        while ((bytes[first]! & 0xc0) === 0x80) first--
        const before = Buffer.from(bytes.slice(0, first)).toString()
        assert.equal(starts[i], [...before].length, JSON.stringify(text))
        at += token.bytes.length
      }
    }
  })
})
