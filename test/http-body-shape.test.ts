// What a body may cost before it is parsed, and how a large answer is written.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { each } from '../server/http/reply/lazy-list.ts'
import { toRaw } from '../server/http/reply/raw-json.ts'
import { checkShape } from '../server/http/request/body-shape.ts'
import { jsonPieces } from '../server/http/wire/json-pieces.ts'
import { jsonResponse } from '../server/http/wire/json-response.ts'
import { createFront, goodChat } from './support/front.ts'

const keys = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, 1]))

describe('the shape of a body', () => {
  const check = (text: string) => checkShape(Buffer.from(text), () => undefined)
  const complex = { code: 'invalid_request', message: /too complex/ }

  it('passes at each bound', async () => {
    await check(JSON.stringify(keys(10_000)))
    await check(JSON.stringify(Array.from({ length: 79_999 }, () => [])))
    await check(`${'['.repeat(64)}${']'.repeat(64)}`)
    await check(JSON.stringify(Array.from({ length: 1_000_000 }, () => 1)))
    await check(JSON.stringify({ text: '{[:"\\'.repeat(100_000) }))
  })

  it('is refused beyond it', async () => {
    await assert.rejects(() => check(JSON.stringify(keys(10_001))), complex)
    await assert.rejects(() => check(JSON.stringify({ x: keys(10_001) })), complex)
    await assert.rejects(
      () => check(JSON.stringify(Array.from({ length: 80_000 }, () => ({})))),
      complex,
    )
    for (const pair of ['[]', '{}']) {
      const deep = pair[0]!.repeat(65) + pair[1]!.repeat(65)
      await assert.rejects(() => check(deep), { code: 'invalid_json', message: /64 levels/ })
    }
  })

  it('whatever the bytes, ends', async () => {
    for (const text of ['"', '"\\', ']]]}}}', '{"a', '::::', '\\"[']) await check(text)
  })

  it('is looked at in stretches, with the same outcome wherever they end', async () => {
    const body = Buffer.from(JSON.stringify(Array.from({ length: 500_000 }, () => 1)))
    let rests = 0
    await checkShape(body, () => void rests++)
    assert.equal(rests, Math.floor((body.length - 1) / 65_536))
    // A string that spans two of them hides what looks like structure.
    for (let before = 65_530; before < 65_540; before++) {
      const text = `["${'x'.repeat(before)}\\"${'['.repeat(80)}", 1]`
      await check(text)
      await assert.rejects(check(`${' '.repeat(before)}${'['.repeat(65)}`), {
        code: 'invalid_json',
      })
    }
  })

  it('of a chat is 400 by its rule, and the next good request works', async () => {
    const front = createFront()
    const body = { ...goodChat, logit_bias: keys(10_001) }
    const refused = await front.post('/v1/chat/completions', body)
    assert.equal(refused.status, 400)
    assert.equal((await front.post('/v1/chat/completions', goodChat)).status, 200)
  })
})

describe('an answer in pieces', () => {
  const write = (value: unknown) => [...jsonPieces(value)].join('')

  it('is what JSON.stringify writes', () => {
    const values = [
      null,
      1,
      'é"\n',
      [],
      {},
      { a: undefined, b: null, c: [undefined, 1], d: { e: { f: { g: { h: [1] } } } } },
      Array.from({ length: 200 }, (_, i) => ({ i, text: `"${i}"` })),
    ]
    for (const value of values) assert.equal(write(value), JSON.stringify(value))
  })

  it('walks lists while it writes, and takes text as it is', () => {
    const value = {
      list: each([1, 2], (x) => ({ x })),
      none: each([], (x) => x),
      raw: toRaw('[3]'),
    }
    assert.equal(write(value), '{"list":[{"x":1},{"x":2}],"none":[],"raw":[3]}')
  })

  it('has its length where it is small, and is a stream where it is large', async () => {
    const small = await jsonResponse({ a: each([1], (x) => x) }, { 'x-adapter': 'none' })
    assert.equal(small.headers.get('x-adapter'), 'none')
    assert.deepEqual(await small.json(), { a: [1] })
    const length = 300_000
    const items = Array.from({ length }, (_, i) => i)
    const large = await jsonResponse({ a: each(items, (i) => ({ i })) }, {})
    const { a } = (await large.json()) as { a: { i: number }[] }
    assert.equal(a.length, length)
    assert.equal(a.at(-1)!.i, length - 1)
  })
})
