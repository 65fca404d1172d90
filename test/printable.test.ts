// What clients and files bring into the log is printed, never obeyed.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { escapeLine, escapeUnprinted } from '../server/contracts/printable.ts'
import { createFront, goodChat } from './support/front.ts'

const odd = [
  ...['\u0000', '\u0007', '\u001b', '\n', '\r', '\u007f', '\u0085', '\u009b'],
  ...['\u00ad', '\u061c', '\u200b', '\u200e', '\u200f', '\u2028', '\u2029', '\u202a', '\u202e'],
  ...['\u2060', '\u2066', '\u2069', '\ufeff', '\ufff9', '\ue000', '\ud800', '\u{e0041}'],
]

describe('text in the log', () => {
  it('shows what is not printed as an escape that JSON reads back', () => {
    for (const char of odd) {
      const shown = escapeUnprinted(`a${char}b`)
      assert.match(shown, /^a(\\u[0-9a-f]{4})+b$/, JSON.stringify(char))
      assert.equal(JSON.parse(`"${shown}"`), `a${char}b`)
    }
    for (const text of ['plain', 'é中😀', 'a b', '"\\']) assert.equal(escapeUnprinted(text), text)
  })

  it('a line keeps its end, and stays the same JSON', () => {
    const fields = { name: odd.filter((char) => char !== '\ud800').join('x') }
    const line = escapeLine(`${JSON.stringify(fields)}\n`)
    assert.match(line, /^[\x20-\x7e]*\n$/)
    assert.deepEqual(JSON.parse(line), fields)
  })

  it('names of unknown fields and paths are escaped', async () => {
    const front = createFront()
    for (const char of odd) {
      await front.post('/v1/chat/completions', { ...goodChat, [`x${char}y`]: 1 })
    }
    await front.request('/x\u0085y')
    const fields = front.log.map((line) => JSON.stringify(line.fields.unknownFields ?? ''))
    assert.equal(fields.filter((text) => text.includes('u')).length, odd.length)
    for (const text of fields) assert.equal(escapeUnprinted(text), text)
    for (const { fields } of front.log) {
      assert.equal(escapeUnprinted(String(fields.route)), fields.route)
    }
  })
})
