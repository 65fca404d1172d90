// Raw HTTP against a real socket of the front: split, cut off, oversized and malformed. Whatever comes
// back is whole HTTP below 500 with an error body of ours, and the connection ends.

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import * as fc from 'fast-check'
import { within } from '../support/deadline.ts'
import { createFront, goodChat, listen } from '../support/front.ts'
import { checkErrorBody } from './claims.ts'
import { readResponses } from './http-responses.ts'
import { applyDamage } from './mutations.ts'
import type { Target } from './target.ts'

interface RawRequest {
  readonly text: string
  /** Where the text is cut into writes. */
  readonly cuts: readonly number[]
  /** end: half-closes after the last write; wait: sends nothing more; reset: goes. */
  readonly ending: 'end' | 'wait' | 'reset'
}

const patience = 10_000
const body = JSON.stringify(goodChat)
const head =
  'POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n'
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`
const goods = [
  `${head}content-length: ${body.length}\r\n\r\n${body}`,
  `${head}transfer-encoding: chunked\r\n\r\n${chunk(body.slice(0, 9))}${chunk(body.slice(9))}0\r\n\r\n`,
  `${head}expect: 100-continue\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  'GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n',
  'GET /health/live HTTP/1.0\r\n\r\n',
]
const lines = [
  'content-length: 0',
  'content-length: -1',
  'content-length: 99999999999999999999',
  'content-length: 5, 6',
  'transfer-encoding: chunked',
  'transfer-encoding: gzip, chunked',
  'transfer-encoding: identity',
  'host: [::',
  'host: a b',
  'host:',
  'x: \u00ff',
  ': x',
  ' folded',
  'x\0: y',
  'expect: nothing',
  'upgrade: websocket\r\nconnection: upgrade',
  'connection: close',
  `x-long: ${'y'.repeat(20_000)}`,
  'content-encoding: br',
  'content-type: application/json; charset=utf-16',
  'x-request-id: \u2028',
]
const starts = [
  'GET http://evil.example/ HTTP/1.1',
  'GET //// HTTP/1.1',
  'GET /%ff%00 HTTP/1.1',
  'CONNECT a:1 HTTP/1.1',
  'OPTIONS * HTTP/1.1',
  'PRI * HTTP/2.0',
  'GET / HTTP/9.9',
  'get / http/1.1',
  `GET /${'a'.repeat(20_000)} HTTP/1.1`,
  'TRACE / HTTP/1.1',
  'GET /v1/models?%zz=%u0000#x HTTP/1.1',
  '\x16\x03\x01\x02',
  'BREW /pot HTTP/1.1',
]

const text = fc
  .tuple(
    fc.constantFrom(...goods),
    fc.option(fc.constantFrom(...starts), { freq: 4 }),
    fc.array(fc.constantFrom(...lines), { maxLength: 2 }),
    fc.array(
      fc.record({
        at: fc.nat(600),
        length: fc.nat(5),
        text: fc.string({ unit: 'binary', maxLength: 3 }),
      }),
      { maxLength: 2 },
    ),
    fc.option(fc.constantFrom(...goods), { freq: 4 }),
  )
  .map(([good, start, extra, damages, next]) => {
    const [first, ...rest] = good.split('\r\n')
    const whole = [start ?? first, ...extra, ...rest].join('\r\n')
    return damages.reduce(applyDamage, whole) + (next ?? '')
  })

const inputs: fc.Arbitrary<RawRequest> = fc.record({
  text,
  cuts: fc.array(fc.nat(700), { maxLength: 4 }),
  ending: fc.constantFrom(...Array<'end'>(200).fill('end'), 'wait', 'reset', 'reset'),
})

const limits = {
  headersTimeoutMs: 200,
  requestTimeoutMs: 300,
  keepAliveTimeoutMs: 200,
  checkingIntervalMs: 50,
}

export const socketTarget: Target<RawRequest> = {
  name: 'socket',
  inputs,
  async open() {
    const front = createFront()
    const server = await listen(front, limits)
    return {
      async check(input) {
        const answer = await within(patience, 'end of the connection', send(server.port, input))
        for (const { status, isJson, body: content } of readResponses(answer)) {
          assert.ok(status < 500, `status ${status}: ${content}`)
          if (status >= 400 && content !== '') {
            assert.ok(isJson, content)
            checkErrorBody(status, content)
          }
        }
        const bug = front.log.splice(0).find(({ level }) => level === 'error')
        assert.equal(bug, undefined, String(bug?.fields.err ?? bug?.message))
        if (input.ending === 'end') return
        const good: RawRequest = { text: goods[0]!, cuts: [], ending: 'end' }
        const next = await within(patience, 'next good answer', send(server.port, good))
        assert.match(next, /^HTTP\/1\.1 200 /)
      },
      close: server.close,
    }
  },
}

/** Resolves with all that came once the connection is closed. */
function send(port: number, { text, cuts, ending }: RawRequest): Promise<string> {
  const bytes = Buffer.from(text, 'utf8')
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b)
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    let answer = ''
    socket.setEncoding('utf8')
    socket.on('data', (part) => {
      answer += part
    })
    socket.on('error', () => {})
    socket.on('end', () => socket.end())
    socket.on('close', () => resolve(answer))

    function write(from: number): void {
      const to = ends.shift() ?? bytes.length
      socket.write(bytes.subarray(from, to), () => {
        if (to < bytes.length) setImmediate(write, to)
        else if (ending === 'end') socket.end()
        else if (ending === 'reset') socket.destroy()
      })
    }

    socket.on('connect', () => write(0))
  })
}
