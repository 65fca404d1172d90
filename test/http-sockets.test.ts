// What only a socket shows: disconnects, slow readers and senders, Node's own limits, draining.
// Port 0 of 127.0.0.1, a named deadline on each wait, cleanup in `finally`.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { describe, it } from 'node:test'
import { ServerError } from '../server/errors.ts'
import type { SocketLimits } from '../server/http/server.ts'
import { within } from './support/deadline.ts'
import { accepted, createFakeEngine, delta, hang, type Script } from './support/fake-engine.ts'
import {
  createFront,
  type Front,
  type FrontOptions,
  goodChat,
  listen,
  parseEvents,
  until,
} from './support/front.ts'

const chat = '/v1/chat/completions'
const stream = JSON.stringify({ ...goodChat, stream: true })
const whole = JSON.stringify(goodChat)
const patience = 5000

/** Past the 511 that Node keeps by itself. */
const numRush = 700

/** A reason to skip, or false: the system's own bound on connections that wait. */
function keepsNoRush(): string | false {
  const path = '/proc/sys/net/core/somaxconn'
  const bound = existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0
  return bound < numRush && `the system keeps ${bound} waiting connections`
}

/** Runs a test against a listening front and closes it afterwards, whatever happened. */
const withFront = async (
  options: FrontOptions & { script?: Script; limits?: Partial<SocketLimits> },
  test: (context: { front: Front; port: number; url: string }) => Promise<void>,
) => {
  const engine = createFakeEngine(options.script ? { script: options.script } : {})
  const front = createFront({ engine, ...options })
  const server = await listen(front, options.limits)
  try {
    await test({ front, ...server })
  } finally {
    await within(patience, 'server closed', server.close())
  }
}

const refuseAll = (): never => {
  throw new ServerError('rate_limit_exceeded', 'full')
}

/** The answer on a connection that is to close, read once all is sent. */
const sendThenRead = async (
  port: number,
  path: string,
  headers: Readonly<Record<string, string>>,
): Promise<string> => {
  const body = Buffer.alloc(8_000_000, ' ')
  const lines = Object.entries({
    host: '127.0.0.1',
    connection: 'close',
    'content-type': 'application/json',
    'content-length': String(body.length),
    ...headers,
  }).map(([name, value]) => `${name}: ${value}\r\n`)
  const socket = connect({ port, host: '127.0.0.1' })
  try {
    const broken = once(socket, 'error').then(([error]) => Promise.reject(error))
    broken.catch(() => {})
    socket.write(`POST ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
    const sent = new Promise<void>((resolve) => socket.write(body, () => resolve()))
    await Promise.race([sent, broken])
    const pieces: Buffer[] = []
    socket.on('data', (piece) => pieces.push(piece))
    await Promise.race([once(socket, 'end'), broken])
    return Buffer.concat(pieces).toString()
  } finally {
    socket.destroy()
  }
}

/** A request over its own connection, without its body. */
const begin = (port: number, headers: Record<string, string> = {}): ClientRequest => {
  const request = httpRequest({
    port,
    host: '127.0.0.1',
    path: chat,
    method: 'POST',
    agent: false,
    headers: { 'content-type': 'application/json', ...headers },
  })
  request.on('error', () => {})
  return request
}

const post = (port: number, body: string, headers: Record<string, string> = {}): ClientRequest =>
  begin(port, headers).end(body)

const answerOf = (request: ClientRequest): Promise<IncomingMessage> =>
  within(
    patience,
    'response headers',
    new Promise((resolve) => request.once('response', (message) => resolve(message))),
  )

const textOf = async (message: IncomingMessage): Promise<string> => {
  let text = ''
  for await (const part of message) text += part
  return text
}

/** Sends raw bytes and collects what comes until the server closes. */
const raw = (port: number, bytes: string): { socket: Socket; closed: Promise<string> } => {
  const socket = connect(port, '127.0.0.1')
  let text = ''
  socket.on('data', (part) => {
    text += part
  })
  socket.on('error', () => {})
  const closed = new Promise<string>((resolve) => socket.on('close', () => resolve(text)))
  socket.write(bytes)
  return { socket, closed: within(patience, 'connection closed by the server', closed) }
}

const disconnects = (stage: string) => `dutyfree_client_disconnects_total{stage="${stage}"}`

it('a Host that makes no URL is a bad request, not our bug', () =>
  withFront({}, async ({ front, port }) => {
    const { closed, socket } = raw(port, 'GET /v1/models HTTP/1.1\r\nhost: 127.0..1\r\n\r\n')
    socket.end()
    assert.match(await closed, /^HTTP\/1\.1 400 .*"code":"invalid_request"/s)
    assert.equal(front.log.filter(({ level }) => level === 'error').length, 0)
  }))

it('a full queue refuses before the body has come, and the connection goes on', () =>
  withFront(
    { script: hang({ accept: true }), config: { maxBatch: 1, maxQueue: 1 } },
    async ({ front, port }) => {
      const held = [post(port, stream), post(port, stream)]
      await Promise.all(held.map(answerOf))
      const head = `POST ${chat} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: ${whole.length}`
      const { socket, closed } = raw(port, `${head}\r\n\r\n`)
      let answers = ''
      socket.on('data', (part) => {
        answers += part
      })
      await until(patience, 'refusal', () => /^HTTP\/1\.1 429 .*\}\}$/s.test(answers))
      assert.match(answers, /\r\nretry-after: [1-9]/i)
      socket.write(`${whole}${head}\r\nconnection: close\r\n\r\n${whole}`)
      assert.equal((await closed).match(/HTTP\/1\.1 429 /g)?.length, 2)
      assert.equal(front.engine.requests.length, 2)
      for (const request of held) request.destroy()
    },
  ))

it('a rush of connections is kept while the front is busy', { skip: keepsNoRush() }, () =>
  withFront({}, async ({ port }) => {
    const connectAll = `
      const { connect } = require('node:net')
      let numConnected = 0
      const tell = () => { console.log(numConnected); process.exit() }
      for (let i = 0; i < ${numRush}; i++)
        connect(${port}, '127.0.0.1', () => { if (++numConnected === ${numRush}) tell() })
      setTimeout(tell, 15_000)`
    // Nothing is accepted meanwhile: this process waits.
    const { stdout } = spawnSync(process.execPath, ['-e', connectAll], { encoding: 'utf8' })
    assert.equal(Number(stdout), numRush)
  }),
)

describe('clients that go', () => {
  it('before the first token: the generation is cancelled and counted', () =>
    withFront({ script: hang({ accept: false }) }, async ({ front, port }) => {
      const request = post(port, whole)
      await until(patience, 'submission', () => front.engine.requests.length === 1)
      request.destroy()
      await until(patience, 'cancellation', () => front.engine.cancelled.length === 1)
      await until(patience, 'place given back', () => front.app.admission.numInFlight === 0)
      await until(patience, 'log line', () => front.log.some(({ fields }) => 'status' in fields))
      assert.equal(await front.metric(disconnects('before_response')), 1)
    }))

  it('mid-stream: the generation is cancelled and counted', () =>
    withFront({ script: hang({ accept: true }) }, async ({ front, port }) => {
      const request = post(port, stream)
      const response = await answerOf(request)
      await within(
        patience,
        'first bytes',
        new Promise((resolve) => response.once('data', resolve)),
      )
      request.destroy()
      await until(patience, 'cancellation', () => front.engine.cancelled.length === 1)
      await until(patience, 'place given back', () => front.app.admission.numInFlight === 0)
      await until(patience, 'no generation left', () => front.engine.numRunning === 0)
      assert.equal(await front.metric(disconnects('mid_stream')), 1)
      const aborted = 'dutyfree_requests_total{adapter="none",outcome="abort"}'
      assert.equal(await front.metric(aborted), 1)
    }))

  it('after a complete answer: nothing is counted', () =>
    withFront({}, async ({ front, port }) => {
      const request = post(port, stream)
      assert.equal(parseEvents(await textOf(await answerOf(request))).at(-1), '[DONE]')
      request.destroy()
      await until(patience, 'log line', () => front.log.some(({ fields }) => 'status' in fields))
      assert.equal(await front.metric(disconnects('mid_stream')), 0)
      assert.deepEqual(front.engine.cancelled, [])
    }))
})

describe('slow clients', () => {
  it('one that does not read holds the generation up, then loses it', async () => {
    let numSent = 0
    const flood: Script = async function* (request) {
      yield accepted(request)
      for (;;) {
        numSent += 1
        yield delta(0, 'content', 'x'.repeat(10_000))
      }
    }
    const streamLimits = { keepAliveMs: 60_000, maxBufferedBytes: 50_000, slowReaderMs: 200 }
    await withFront({ script: flood, streamLimits }, async ({ front, port }) => {
      const request = post(port, stream)
      const response = await answerOf(request)
      response.pause()
      try {
        await until(patience, 'cancellation', () => front.engine.cancelled.length === 1)
        await until(patience, 'place given back', () => front.app.admission.numInFlight === 0)
        // The sockets of both sides hold a few megabytes; without a bound it would be endless.
        assert.ok(numSent < 2000, `${numSent} deltas of 10 kB`)
        assert.equal(await front.metric(disconnects('mid_stream')), 1)
      } finally {
        request.destroy()
      }
    })
  })

  it('slow headers are 408 and the connection closes', () =>
    withFront(
      { limits: { headersTimeoutMs: 100, requestTimeoutMs: 200, checkingIntervalMs: 20 } },
      async ({ port }) => {
        const { closed } = raw(port, `POST ${chat} HTTP/1.1\r\nhost: 127.0.0.1\r\n`)
        const text = await closed
        assert.match(text, /^HTTP\/1\.1 408 /)
        assert.match(text, /"code":"request_timeout"/)
      },
    ))

  it('a slow body is 408 and the connection closes', () =>
    withFront(
      { limits: { headersTimeoutMs: 100, requestTimeoutMs: 200, checkingIntervalMs: 20 } },
      async ({ front, port }) => {
        const head = `POST ${chat} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n`
        const { closed } = raw(port, `${head}content-length: 100\r\n\r\n{"model"`)
        assert.match(await closed, /^HTTP\/1\.1 408 /)
        assert.equal(front.engine.requests.length, 0)
      },
    ))
})

describe('what Node refuses', () => {
  it('headers over 16 kB are 431', () =>
    withFront({}, async ({ port }) => {
      const header = `x-big: ${'x'.repeat(17_000)}\r\n`
      const { closed } = raw(port, `GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n${header}\r\n`)
      const text = await closed
      assert.match(text, /^HTTP\/1\.1 431 /)
      assert.match(text, /"code":"headers_too_large"/)
    }))

  it('what is not HTTP is 400 in the same shape', () =>
    withFront({}, async ({ port }) => {
      const text = await raw(port, 'hello\r\n\r\n').closed
      assert.match(text, /^HTTP\/1\.1 400 /)
      assert.match(text, /"code":"invalid_request"/)
    }))

  for (const [path, status] of [
    ['/v1\\models', 404],
    ['/..\\..\\etc', 404],
    ['/v1/models/%00', 404],
    ['/%2e%2e/%2e%2e/etc/passwd', 404],
    ['/..%2f..%2fetc', 404],
  ] as const) {
    it(`${path} is ${status}`, () =>
      withFront({}, async ({ port }) => {
        const head = `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n`
        const text = await raw(port, head).closed
        assert.match(text, new RegExp(`^HTTP/1\\.1 ${status} `))
        assert.match(text, /"error":\{/)
      }))
  }

  it('a rebound and a broken Host are refused', () =>
    withFront({}, async ({ port }) => {
      const get = (host: string) =>
        raw(port, `GET /health HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`).closed
      assert.match(await get(`evil.example:${port}`), /^HTTP\/1\.1 403 .*host_not_allowed/s)
      assert.match(await get('a b'), /^HTTP\/1\.1 400 .*invalid_request/s)
      assert.match(await get(`127.0.0.1:${port}`), /^HTTP\/1\.1 200 /)
    }))
})

describe('bodies', () => {
  const head = (more: string) =>
    `POST ${chat} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n${more}\r\n\r\n`

  it('a declared length over the limit is 413 before anything is sent', () =>
    withFront({}, async ({ port }) => {
      const text = await raw(port, head('content-length: 999999999')).closed
      assert.match(text, /^HTTP\/1\.1 413 /)
      assert.match(text, /connection: close/i)
    }))

  it('a chunked body over the limit is 413 while the client still sends', () =>
    withFront({}, async ({ front, port }) => {
      const chunk = 'x'.repeat(0x4000)
      const { socket, closed } = raw(port, head('transfer-encoding: chunked'))
      const send = () => {
        while (socket.writable && socket.write(`4000\r\n${chunk}\r\n`));
        socket.once('drain', send)
      }
      send()
      assert.match(await closed, /^HTTP\/1\.1 413 /)
      assert.equal(front.engine.requests.length, 0)
    }))

  for (const [status, path, headers, config] of [
    [401, chat, { authorization: 'Bearer wrong' }, { apiKey: ['right'] }],
    [403, '/v1/adapters', {}, {}],
    [404, '/nowhere', {}, {}],
    [413, chat, {}, { maxBody: 1000 }],
    [429, chat, {}, {}],
  ] as const) {
    it(`a client that sends 8 MB before it reads still gets its ${status}`, () =>
      withFront({ config: { ...config } }, async ({ front, port }) => {
        // The limits are full: nothing is under way that would let another in.
        if (status === 429) front.app.admission.requireRoom = refuseAll
        const answer = await within(patience, 'answer', sendThenRead(port, path, headers))
        assert.match(answer, new RegExp(`^HTTP/1.1 ${status} `))
        assert.match(answer, /"error":/)
      }))
  }

  it('a body in one-byte chunks is read in bounded memory', () =>
    withFront({}, async ({ port }) => {
      const body = JSON.stringify({
        ...goodChat,
        messages: [{ role: 'user', content: 'x'.repeat(50_000) }],
      })
      const chunks = [...body].map((letter) => `1\r\n${letter}\r\n`).join('')
      const ending = `${head('transfer-encoding: chunked\r\nconnection: close')}${chunks}0\r\n\r\n`
      assert.match(await raw(port, ending).closed, /^HTTP\/1\.1 200 /)
    }))
})

describe('draining', () => {
  it('running streams finish, new requests are 503, then the server is closed', async () => {
    let finish: () => void = () => {}
    const gate = new Promise<void>((resolve) => {
      finish = resolve
    })
    const script: Script = async function* (request) {
      yield accepted(request)
      yield delta(0, 'content', 'a')
      await gate
      yield delta(0, 'content', 'b')
      yield {
        kind: 'choice_finished',
        index: 0,
        reason: 'stop',
        stopReason: null,
        usage: { completionTokens: 2, reasoningTokens: 0 },
      }
      const timing = { queueMs: 0, prefillMs: 0, decodeMs: 0 }
      yield { kind: 'done', timing, cachedTokens: 0 }
    }
    const front = createFront({ engine: createFakeEngine({ script }) })
    const { port, drain } = await listen(front)
    const running = await answerOf(post(port, stream))
    const drained = drain({ timeoutMs: patience, force: new AbortController().signal })
    try {
      const refused = await answerOf(post(port, whole))
      assert.equal(refused.statusCode, 503)
      assert.equal(refused.headers.connection, 'close')
      assert.match(await textOf(refused), /"shutting_down"/)
    } finally {
      finish()
    }
    assert.equal(parseEvents(await textOf(running)).at(-1), '[DONE]')
    assert.equal(await within(patience, 'drain', drained), 'finished')
  })

  /** A request whose headers are in while its body is not: then the drain begins. */
  async function drainAround(test: {
    readonly send: (request: ClientRequest) => void
    readonly timeoutMs?: number
  }): Promise<{ request: ClientRequest; outcome: string }> {
    const front = createFront({ engine: createFakeEngine() })
    const { admission } = front.app
    const arrived = new Promise<void>((resolve) => {
      const { requireRoom } = admission
      Object.assign(admission, {
        requireRoom(client: string) {
          resolve()
          requireRoom(client)
        },
      })
    })
    const { port, drain } = await listen(front)
    const headers = { 'content-length': String(Buffer.byteLength(whole)) }
    const request = begin(port, headers)
    request.write(whole.slice(0, 10))
    await within(patience, 'headers', arrived)
    const force = new AbortController().signal
    const drained = drain({ timeoutMs: test.timeoutMs ?? patience, force })
    test.send(request)
    return { request, outcome: await within(2 * patience, 'drain', drained) }
  }

  it('a request that came before is answered, though its body came after', async () => {
    let answer: Promise<string> | undefined
    const { outcome } = await drainAround({
      send(request) {
        answer = answerOf(request).then(textOf)
        request.end(whole.slice(10))
      },
    })
    assert.equal(JSON.parse(await answer!).choices[0].finish_reason, 'stop')
    assert.equal(outcome, 'finished')
  })

  it('waits for no request whose client leaves in the middle of the body', async () => {
    const { outcome } = await drainAround({ send: (request) => void request.destroy() })
    assert.equal(outcome, 'finished')
  })

  it('waits no longer than the drain time for a body that does not come', async () => {
    const { request, outcome } = await drainAround({ send: () => {}, timeoutMs: 50 })
    assert.equal(outcome, 'aborted')
    request.destroy()
  })

  it('past the drain time a stream ends in an error event', async () => {
    const front = createFront({ engine: createFakeEngine({ script: hang({ accept: true }) }) })
    const server = await listen(front)
    const running = await answerOf(post(server.port, stream))
    const [text] = await within(patience, 'abort', Promise.all([textOf(running), server.close()]))
    const events = parseEvents(text)
    assert.equal((events.at(-2) as { error: { code: string } }).error.code, 'shutting_down')
    assert.equal(events.at(-1), '[DONE]')
  })
})
