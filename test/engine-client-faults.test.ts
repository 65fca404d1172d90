// Every way for an engine process to fail, with real processes: one terminal event for each open request,
// then another process. test/support/odd-engine.ts fails as it is told.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { EngineOptions, EngineState, Generation } from '../server/contracts/engine.ts'
import { type GenerationEvent, isTerminal } from '../server/contracts/generation.ts'
import type { Observer } from '../server/contracts/observer.ts'
import { type ForkEngine, forkEngine } from '../server/engine-client/child-engine.ts'
import { createEngineClient } from '../server/engine-client/client.ts'
import { createDeferred } from '../server/engine-client/deferred.ts'
import type { EngineLimits } from '../server/engine-client/engine-process.ts'
import { within } from './support/deadline.ts'
import type { Failure, OddMode } from './support/odd-engine.ts'
import { createRequest } from './support/scripted-model.ts'
import { createTempFolder } from './support/temp-folder.ts'

const patience = 60_000
const oddEntry = new URL(`support/odd-engine${import.meta.url.slice(-3)}`, import.meta.url)
/** Short, but long enough for a process to begin on a busy machine. */
const limits: Partial<EngineLimits> = {
  unresponsiveMs: 2_500,
  silenceMs: 4_000,
  hangMs: 4_000,
  watchIntervalMs: 50,
  firstBackoffMs: 10,
}

type Fork = OddMode | 'no process' | 'an exception'

/** What each fork in turn gives; the last one for all that follow. */
function createForks(...list: readonly Fork[]): {
  readonly fork: ForkEngine
  readonly count: () => number
} {
  let count = 0
  function fork() {
    const mode = list[Math.min(count++, list.length - 1)]!
    if (mode === 'an exception') throw new Error('spawn E2BIG')
    if (mode === 'no process') return forkEngine(oddEntry, '/no/such/node')
    process.env.ODD_ENGINE = mode
    return forkEngine(oddEntry)
  }
  return { fork, count: () => count }
}

function startClient(
  list: readonly Fork[],
  { model = '', more = {} }: { model?: string; more?: Partial<EngineLimits> } = {},
) {
  const states: EngineState[] = []
  const reasons: string[] = []
  const waits: { state: EngineState; resolve: () => void }[] = []
  const { fork, count } = createForks(...list)
  const observer: Partial<Observer> = {
    engineState(state) {
      states.push(state)
      for (const wait of waits) if (wait.state === state) wait.resolve()
    },
    engineRestarted: (reason) => void reasons.push(reason),
    engineReady() {},
  }
  const ignore = () => {}
  const client = createEngineClient({
    options: { model } as EngineOptions,
    observer: observer as Observer,
    logger: { debug: ignore, info: ignore, warn: ignore, error: ignore },
    limits: { ...limits, ...more },
    ...(list.length > 0 && { fork }),
  })
  /** Resolves when the engine is in that state. */
  function reach(state: EngineState): Promise<void> {
    if (client.state === state) return Promise.resolve()
    const { promise, resolve } = createDeferred<void>()
    waits.push({ state, resolve })
    return within(patience, state, promise)
  }
  return { client, states, reasons, count, reach }
}

let numRequests = 0

async function collect({ id, events }: Generation): Promise<readonly GenerationEvent[]> {
  const all: GenerationEvent[] = []
  async function read(): Promise<void> {
    for await (const event of events) all.push(event)
  }
  await within(patience, `end of ${id}`, read())
  return all
}

function codeOf(events: readonly GenerationEvent[]): string {
  assert.equal(events.filter(isTerminal).length, 1)
  const last = events.at(-1)!
  return last.kind === 'failed' ? last.error.code : last.kind
}

const newRequest = () => createRequest({ id: `request ${numRequests++}` })
const reasonOf = (failure: Failure) =>
  failure === 'stop' || failure === 'block' || failure === 'hang' ? 'hung' : 'crashed'

const failures = [
  'exit',
  'disconnect',
  'stop',
  'block',
  'hang',
  'send nonsense',
  'send garbage',
  'send a damaged message',
  'send a length that is too long',
] as const

describe('an engine that fails while it serves', { concurrency: true }, () => {
  for (const failure of failures) {
    it(`ends each request once, is started again, and answers: ${failure}`, async () => {
      const isSeen = failure === 'stop' || failure === 'block'
      // A busy machine may hold a pulse up: what is not looked for is not seen.
      const more = isSeen ? {} : { unresponsiveMs: patience }
      const list = [`serving ${failure}`, 'well'] as const
      const { client, states, reasons, count, reach } = startClient(list, { more })
      try {
        await within(patience, 'ready', client.ready())
        const open = [newRequest(), newRequest()].map((request) => client.submit(request))
        const question = client.tokenize(
          { kind: 'text', text: 'x', addSpecialTokens: false, withTokenStrings: false },
          { client: 'client', request: 'text' },
        )
        await assert.rejects(within(patience, 'refusal', question), { code: 'engine_crashed' })
        for (const generation of open)
          assert.equal(codeOf(await collect(generation)), 'engine_crashed')
        await reach('ready')
        assert.equal(codeOf(await collect(client.submit(newRequest()))), 'done')
        assert.equal(count(), 2)
        assert.deepEqual(reasons, [reasonOf(failure)])
        // One that is stopped or blocked is known to be, before it is killed.
        const between: EngineState[] = isSeen ? ['unresponsive', 'restarting'] : ['restarting']
        assert.deepEqual(states.slice(0, 2), ['loading', 'ready'])
        assert.deepEqual(states.slice(-1 - between.length), [...between, 'ready'])
      } finally {
        await client.close({ force: true })
      }
    })
  }

  it('takes no requests while it is unresponsive; one that was only slow goes on', async () => {
    // Killed only after longer than this test takes.
    const more = { silenceMs: patience, unresponsiveMs: 2_500 }
    const { client, count, reach } = startClient(['well'], { more })
    try {
      await within(patience, 'ready', client.ready())
      process.kill(client.pid!, 'SIGSTOP')
      await reach('unresponsive')
      assert.equal(codeOf(await collect(client.submit(newRequest()))), 'model_loading')
      await assert.rejects(client.listAdapters(), {
        code: 'model_loading',
        message: /unresponsive/,
      })
      process.kill(client.pid!, 'SIGCONT')
      await reach('ready')
      assert.equal(codeOf(await collect(client.submit(newRequest()))), 'done')
      assert.equal(count(), 1)
    } finally {
      await client.close({ force: true })
    }
  })

  it('a request that cannot be copied to it fails alone', async () => {
    const { client, reasons } = startClient(['well'])
    try {
      await within(patience, 'ready', client.ready())
      const odd = { ...newRequest(), prompt: () => {} } as unknown as ReturnType<typeof newRequest>
      assert.equal(codeOf(await collect(client.submit(odd))), 'server_error')
      assert.equal(codeOf(await collect(client.submit(newRequest()))), 'done')
      assert.deepEqual(reasons, [])
    } finally {
      await client.close({ force: true })
    }
  })
})

describe('an engine that fails while it loads', { concurrency: true }, () => {
  const forks: readonly Fork[] = [
    ...failures.map((failure) => `loading ${failure}` as const),
    'no process',
    'an exception',
  ]
  for (const failure of forks) {
    it(`is started again, at the start: ${failure}`, async () => {
      const { client, count } = startClient([failure, failure, 'well'])
      try {
        await within(patience, 'ready', client.ready())
        assert.equal(codeOf(await collect(client.submit(newRequest()))), 'done')
        assert.equal(count(), 3)
      } finally {
        await client.close({ force: true })
      }
    })

    it(`is started again, at a restart, as often as need be: ${failure}`, async () => {
      const { client, count, reach } = startClient([
        'serving exit',
        failure,
        failure,
        failure,
        'well',
      ])
      try {
        await within(patience, 'ready', client.ready())
        assert.equal(codeOf(await collect(client.submit(newRequest()))), 'engine_crashed')
        await reach('ready')
        assert.equal(count(), 5)
      } finally {
        await client.close({ force: true })
      }
    })
  }

  for (const [failure, code, message] of [
    [
      'no process',
      'engine_unavailable',
      /could not be started, 3 times in a row \(.*ENOENT.*raise/,
    ],
    [
      'an exception',
      'engine_unavailable',
      /could not be started, 3 times in a row \(spawn E2BIG\)/,
    ],
    ['loading exit', 'invalid_checkpoint', /ended while loading, 3 times in a row \(7\)/],
    ['loading hang', 'engine_unavailable', /no progress for 4\.\d s while reading the checkpoint/],
    ['loading stop', 'engine_unavailable', /no sign of life for 4\.\d s/],
  ] as const) {
    it(`three times in a row at the start, says so once: ${failure}`, async () => {
      const { client, states, count } = startClient([failure])
      try {
        await assert.rejects(within(patience, 'refusal', client.ready()), { code, message })
        assert.equal(count(), 3)
        assert.equal(states.at(-1), 'stopped')
      } finally {
        await client.close({ force: true })
      }
    })
  }

  it('by refusing its options at the start is not started again', async () => {
    const { client, count, reach } = startClient(['loading refuse', 'well'])
    try {
      await assert.rejects(client.ready(), { code: 'unsupported_checkpoint' })
      await reach('stopped')
      assert.equal(count(), 1)
    } finally {
      await client.close({ force: true })
    }
  })

  it('can be closed between two starts, and in the middle of a hang', async () => {
    for (const failure of ['no process', 'loading block'] as const) {
      const more = { firstBackoffMs: patience, maxBackoffMs: patience, endMs: 100 }
      const { client, count } = startClient([failure], { more })
      const ready = assert.rejects(client.ready(), { code: 'shutting_down' })
      await within(patience, 'close', client.close())
      await ready
      assert.equal(client.state, 'stopped')
      assert.equal(count(), 1)
    }
  })

  it('the real engine: a config.json that never comes names the phase', async () => {
    const model = join(createTempFolder(), 'fifo')
    mkdirSync(model)
    execFileSync('mkfifo', [join(model, 'config.json')])
    const { client } = startClient([], { model, more: { firstStarts: 1 } })
    try {
      await assert.rejects(within(patience, 'refusal', client.ready()), {
        code: 'engine_unavailable',
        message: /while opening the checkpoint/,
      })
    } finally {
      await client.close({ force: true })
    }
  })
})
