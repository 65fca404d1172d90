// The front over an engine whose requests a guard behind an address judges: a real HTTP server stands for
// the guard, and is well, slow, wrong or gone.

import assert from 'node:assert/strict'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, it } from 'node:test'
import { createGuardServer } from '../server/external-guard/guard-server.ts'
import { createJudgingClient } from '../server/external-guard/judging-client.ts'
import type { HttpConfig } from '../server/http/context.ts'
import { within } from './support/deadline.ts'
import {
  accepted,
  createFakeEngine,
  delta,
  done,
  finished,
  type Script,
} from './support/fake-engine.ts'
import {
  createFront,
  type Front,
  goodChat,
  listen,
  parseEvents,
  readJson,
  userMessage,
} from './support/front.ts'

const chat = '/v1/chat/completions'
const patience = 10_000

type Turns = ReadonlyArray<{ role: string; content: string }>
type Guard = (turns: Turns, response: ServerResponse) => void

const say = (response: ServerResponse, content: string) => {
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify({ choices: [{ message: { content } }] }))
}

/** Unsafe is what holds BAD. */
const honest: Guard = (turns, response) =>
  say(response, turns.at(-1)!.content.includes('BAD') ? 'unsafe\nS1,S9' : 'safe')

/** A word a token, with a thought before it. */
const speak = (thought: string, answer: string): Script =>
  async function* (request) {
    yield accepted(request)
    for (let index = 0; index < request.n; index++) {
      for (const word of thought.match(/\S+\s*/g) ?? []) yield delta(index, 'reasoning', word)
      for (const word of answer.match(/\S+\s*/g) ?? []) yield delta(index, 'content', word)
      yield finished(index)
    }
    yield done
  }

interface World {
  readonly front: Front
  readonly asked: Turns[]
  /** The guard's process is gone. */
  kill(): Promise<void>
}

async function withGuard(
  options: { guard?: Guard; script?: Script; config?: Partial<HttpConfig>; timeoutMs?: number },
  test: (world: World) => Promise<void>,
) {
  const { guard = honest, script = speak('', 'all is well'), timeoutMs = patience } = options
  const asked: Turns[] = []
  const server = createServer((request, response) => {
    let text = ''
    request.setEncoding('utf8')
    request.on('data', (part) => {
      text += part
    })
    request.on('end', () => {
      const { messages } = JSON.parse(text)
      asked.push(messages)
      guard(messages, response)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const ignore = () => {}
  const kill = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  const front = createFront({
    engine: createFakeEngine({ script }),
    config: { ...options.config },
    wrap: (engine, metrics) =>
      createJudgingClient({
        engine,
        server: createGuardServer({
          url: `http://127.0.0.1:${port}`,
          model: 'llama-guard',
          key: null,
          timeoutMs,
          observer: metrics,
          logger: { debug: ignore, info: ignore, warn: ignore, error: ignore },
          now: () => performance.now(),
        }),
        model: 'llama-guard',
        now: () => performance.now(),
      }),
  })
  try {
    await within(patience, 'answer', test({ front, asked, kill }))
  } finally {
    await kill()
  }
}

const outcomes = (front: Front, outcome: string) =>
  front.metric(`dutyfree_guard_requests_total{outcome="${outcome}"}`)

describe('a guard behind an address', () => {
  it('judges prompt, thought and reply, and the engine judges nothing', () => {
    const script = speak('let me think', 'BAD things')
    return withGuard({ script, config: { judgeEvery: 2 } }, async ({ front, asked }) => {
      const response = await front.post(chat, goodChat)
      assert.equal(response.headers.get('x-safety'), 'observe; guard=llama-guard; certified=false')
      const { safety, choices } = await readJson(response)
      assert.equal(front.engine.requests[0]?.safety, null)
      assert.equal(choices[0].message.content, 'BAD things')
      assert.deepEqual(
        [safety.input, safety.reasoning, safety.output],
        [
          { score: 0, threshold: 0.5, flagged: false, certified: false },
          { score: 0, threshold: 0.5, flagged: false, certified: false },
          { score: 1, threshold: 0.5, flagged: true, certified: false },
        ],
      )
      assert.deepEqual(safety.categories, ['S1', 'S9'])
      const guard = { kind: 'url', id: 'llama-guard', digest: null, certified: false }
      assert.deepEqual(safety.guard, guard)
      assert.deepEqual(asked[0], [userMessage])
      assert.equal(asked.at(-1)?.at(-1)?.content, 'let me think\n\nBAD things')
      assert.equal(await outcomes(front, 'ok'), asked.length)
    })
  })

  it('is asked only where a request is judged', () =>
    withGuard({ config: { safety: 'off' } }, async ({ front, asked }) => {
      assert.equal((await readJson(await front.post(chat, goodChat))).safety, null)
      assert.equal(asked.length, 0)
    }))

  it('sends no byte of what it flagged, to a fast reader and to one that comes late', () => {
    const script = speak('', 'one two three four BAD five six')
    return withGuard({ script, config: { judgeEvery: 2 } }, async ({ front }) => {
      const server = await listen(front)
      try {
        for (const isLate of [false, true]) {
          const response = await fetch(`${server.url}${chat}`, {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({ ...goodChat, safety: 'block', stream: true }),
          })
          if (isLate) while (front.engine.numRunning > 0) await new Promise((r) => setImmediate(r))
          const text = await response.text()
          // biome-ignore lint/suspicious/noExplicitAny: a test asserts on whatever came
          const chunks = parseEvents(text).slice(0, -1) as any[]
          const told = chunks.map(({ choices }) => choices[0].delta.content ?? '').join('')
          assert.ok('one two three four '.startsWith(told), told)
          assert.doesNotMatch(text, /BAD|five|six/)
          assert.equal(chunks.at(-1).choices[0].finish_reason, 'content_filter')
          assert.equal(chunks.at(-1).safety.output.flagged, true)
        }
      } finally {
        await server.close()
      }
    })
  })

  it('blocks one of several choices, and lets the others end', () => {
    const script: Script = async function* (request) {
      yield accepted(request)
      yield* [delta(0, 'content', 'BAD'), delta(1, 'content', 'good')]
      yield* [finished(0), finished(1), done]
    }
    return withGuard({ script }, async ({ front }) => {
      const response = await front.post(chat, { ...goodChat, n: 2, safety: 'block' })
      const { choices } = await readJson(response)
      const ends = choices.map((one: { finish_reason: string; message: { content: string } }) => [
        one.finish_reason,
        one.message.content,
      ])
      assert.deepEqual(ends, [
        ['content_filter', ''],
        ['stop', 'good'],
      ])
    })
  })

  it('blocks a prompt: 200, nothing generated is told, and the engine is given back', () =>
    withGuard({}, async ({ front }) => {
      const messages = [{ role: 'user', content: 'BAD' }]
      const response = await front.post(chat, { ...goodChat, messages, safety: 'block' })
      assert.equal(response.status, 200)
      const { choices, usage } = await readJson(response)
      assert.deepEqual(
        [choices[0].finish_reason, choices[0].message.content, usage.completion_tokens],
        ['content_filter', '', 0],
      )
      assert.equal(front.engine.numRunning, 0)
    }))

  it('reads the prompt of every kind', () =>
    withGuard({}, async ({ front, asked }) => {
      const read = async (path: string, body: object) => {
        asked.length = 0
        assert.equal((await front.post(path, body)).status, 200)
        return asked[0]
      }
      const raw = '/v1/completions'
      const ofUser = (content: string) => [{ role: 'user', content }]
      assert.deepEqual(await read(raw, { model: 'tiny', prompt: 'abc' }), ofUser('abc'))
      assert.deepEqual(await read(raw, { model: 'tiny', prompt: [72, 105] }), ofUser('Hi'))
      const messages = [{ role: 'system', content: 'Be good' }, userMessage]
      const joined = ofUser(`Be good\n\n${userMessage.content}`)
      assert.deepEqual(await read(chat, { model: 'tiny', messages }), joined)
    }))

  it('cannot escalate: it is refused by name', () =>
    withGuard({}, async ({ front }) => {
      const safety = { mode: 'escalate', adapter: 'terse' }
      const response = await front.post(chat, { ...goodChat, safety })
      const { error } = await readJson(response)
      assert.deepEqual([response.status, error.code], [400, 'unsupported_value'])
      assert.match(error.message, /behind an address \(--guard\); ask for block/)
    }))

  const elsewhere = { location: 'http://127.0.0.1:1' }
  const ill: ReadonlyArray<readonly [string, string, Guard]> = [
    ['wrong', 'unparsable', (_, response) => say(response, 'Of course! Here is')],
    ['garbage', 'unparsable', (_, response) => void response.end('\u0000{"choices": [')],
    ['refusing', 'refused', (_, response) => void response.writeHead(503).end('busy')],
    ['redirecting', 'unreachable', (_, response) => void response.writeHead(302, elsewhere).end()],
    ['slow', 'timeout', () => {}],
    ['breaking off', 'unreachable', (_, response) => void response.destroy()],
  ]
  for (const [name, outcome, guard] of ill) {
    it(`that is ${name} never says safe`, () =>
      withGuard({ guard, timeoutMs: 200 }, async ({ front }) => {
        // Told, where it only observes.
        const observed = await readJson(await front.post(chat, goodChat))
        assert.equal(observed.choices[0].message.content, 'all is well')
        const { input, output, failures } = observed.safety
        assert.deepEqual([input.score, output.score, failures], [null, null, 2])
        // Closed by default.
        const blocked = await front.post(chat, { ...goodChat, safety: 'block' })
        assert.equal(blocked.status, 503)
        assert.equal((await readJson(blocked)).error.code, 'guard_unavailable')
        const reply = { output: 'block', input: 'observe' }
        const held = await readJson(await front.post(chat, { ...goodChat, safety: reply }))
        assert.deepEqual(
          [held.choices[0].finish_reason, held.choices[0].message.content],
          ['content_filter', ''],
        )
        const moderated = await front.post('/v1/moderations', { input: 'x' })
        assert.equal((await readJson(moderated)).error.code, 'guard_unavailable')
        assert.ok((await outcomes(front, outcome)) >= 5)
        assert.equal(await outcomes(front, 'ok'), 0)
      }))
  }

  it('that is gone leaves the rest to the policy', () =>
    withGuard({ config: { guardFailure: 'open' } }, async ({ front, kill }) => {
      await kill()
      const open = await readJson(await front.post(chat, { ...goodChat, safety: 'block' }))
      assert.equal(open.choices[0].message.content, 'all is well')
      assert.equal(open.safety.failures, 2)
      const series = 'dutyfree_safety_skipped_total{part="output",reason="failed"}'
      assert.equal(await front.metric(series), 1)
    }))

  it('holds no client that has gone', () =>
    withGuard({ guard: () => {} }, async ({ front, asked }) => {
      const client = new AbortController()
      const body = { ...goodChat, safety: 'block' }
      const answer = front.post(chat, body, { signal: client.signal })
      while (asked.length === 0) await new Promise((resolve) => setImmediate(resolve))
      client.abort()
      await answer
      assert.equal(front.engine.numRunning, 0)
      assert.equal(front.app.admission.numInFlight, 0)
    }))
})
