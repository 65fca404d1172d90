// What a client does wrong on its socket is booked as the client's: a 4xx or 499 in the log, at level
// info, and in the metrics; never an error of ours.

import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { describe, it } from 'node:test'
import type { SocketLimits } from '../server/http/server.ts'
import { within } from './support/deadline.ts'
import { createFront, type Front, goodChat, listen, until } from './support/front.ts'

const patience = 10_000
const path = '/v1/chat/completions'
const body = JSON.stringify(goodChat)

function head(...headers: string[]): string {
  const type = 'content-type: application/json'
  return `${[`POST ${path} HTTP/1.1`, 'host: 127.0.0.1', type, ...headers].join('\r\n')}\r\n\r\n`
}

const chunked = head('transfer-encoding: chunked')
const declared = head('content-length: 1000')

interface Fault {
  readonly title: string
  /** What is sent before the fault. */
  readonly text: string
  /** After the text has arrived. */
  readonly act?: (socket: Socket) => void
  readonly limits?: Partial<SocketLimits>
  readonly status: number
  /** false: Node refuses it before it is a request. */
  readonly isRequest?: boolean
}

const reset = (socket: Socket) => void socket.resetAndDestroy()
const leave = (socket: Socket) => void socket.destroy()
const halfClose = (socket: Socket) => void socket.end()
const short = { requestTimeoutMs: 300, headersTimeoutMs: 200, checkingIntervalMs: 50 }

const faults: readonly Fault[] = [
  { title: 'a reset in a declared body', text: `${declared}{`, act: reset, status: 499 },
  { title: 'a close in a declared body', text: `${declared}{`, act: leave, status: 499 },
  { title: 'a reset in a chunked body', text: `${chunked}1\r\n{\r\n`, act: reset, status: 499 },
  { title: 'a close in a chunked body', text: `${chunked}1\r\n{\r\n`, act: leave, status: 499 },
  { title: 'a reset before the body', text: declared, act: reset, status: 499 },
  { title: 'a half close in a body', text: `${declared}{`, act: halfClose, status: 499 },
  { title: 'a half close in a chunk', text: `${chunked}5\r\n{`, act: halfClose, status: 499 },
  { title: 'a chunk of no size', text: `${chunked}zz\r\n{`, status: 400 },
  { title: 'a chunk longer than it says', text: `${chunked}1\r\n{{{{\r\n`, status: 400 },
  { title: 'a body that takes too long', text: `${declared}{`, limits: short, status: 408 },
  { title: 'no HTTP', text: 'hello\r\n\r\n', status: 400, isRequest: false },
  {
    title: 'headers that take too long',
    text: `POST ${path} HTTP/1.1\r\n`,
    limits: short,
    status: 408,
    isRequest: false,
  },
  {
    title: 'too many headers',
    text: head(`x: ${'y'.repeat(20_000)}`),
    status: 431,
    isRequest: false,
  },
]

/** Counts what reaches the application. */
function countRequests({ app: { hono } }: Front): { count: number } {
  const begun = { count: 0 }
  const { fetch } = hono
  hono.fetch = (...input) => {
    begun.count++
    return fetch(...input)
  }
  return begun
}

function requestLines(front: Front) {
  return front.log.filter(({ message }) => message === 'request')
}

describe('a fault of the client', () => {
  for (const { title, text, act, limits = {}, status, isRequest = true } of faults) {
    it(`${title} is its ${status}`, async () => {
      const front = createFront()
      const begun = countRequests(front)
      const server = await listen(front, limits)
      const socket = connect(server.port, '127.0.0.1')
      socket.on('error', () => {})
      socket.resume()
      try {
        const arrived = new Promise<void>((resolve) => socket.write(text, () => resolve()))
        await within(patience, 'sent', arrived)
        // The server has begun the request before the client breaks it off.
        if (act !== undefined) {
          await until(patience, 'begun', () => begun.count > 0)
          act(socket)
        }
        await until(patience, 'booked', () => requestLines(front).length > 0)
        const [line, ...others] = requestLines(front)
        assert.deepEqual(others, [])
        assert.equal(line!.level, 'info')
        assert.equal(line!.fields.status, status)
        assert.ok(front.log.every(({ level }) => level === 'info' || level === 'debug'))
        const route = isRequest ? path : 'unmatched'
        const method = isRequest ? 'POST' : 'other'
        const series = `dutyfree_http_requests_total{route="${route}",method="${method}",status="${status}"}`
        assert.equal(await front.metric(series), 1)
        assert.equal(front.engine.requests.length, 0)
        // And the next good request works.
        const next = await fetch(`${server.url}${path}`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body,
        })
        assert.equal(next.status, 200)
        await next.text()
      } finally {
        socket.destroy()
        await within(patience, 'close', server.close())
      }
    })
  }

  it('a body that breaks off in process is 499, too', async () => {
    const front = createFront()
    const stream = new ReadableStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode('{')),
      pull: (controller) => controller.error(new Error('gone')),
    })
    const response = await front.post(path, '', {
      body: stream,
      duplex: 'half',
    } as unknown as RequestInit)
    assert.equal(response.status, 499)
    assert.equal(requestLines(front)[0]!.fields.status, 499)
  })
})

describe('a body in tiny chunks', () => {
  it('of a hundred thousand is refused, and the loop is never held up long', async () => {
    const front = createFront()
    const server = await listen(front)
    const socket = connect(server.port, '127.0.0.1')
    socket.on('error', () => {})
    let answer = ''
    try {
      const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()))
      socket.on('data', (data) => (answer += data))
      socket.write(chunked)
      socket.write(`1\r\n{\r\n${'1\r\n \r\n'.repeat(150_000)}`)
      await within(patience, 'refusal', closed)
      assert.match(answer, /^HTTP\/1\.1 413 .*larger ones/s)
    } finally {
      socket.destroy()
      await within(patience, 'close', server.close())
    }
  })
})
