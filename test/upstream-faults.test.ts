// Upstreams that are slow, wrong, full or gone.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ModelConfig } from '../server/contracts/checkpoint.ts'
import { ServerError } from '../server/errors.ts'
import type { AdapterSet } from '../server/upstream/adapter-content.ts'
import type { AdapterFolders } from '../server/upstream/adapter-folders.ts'
import { UpstreamFailure } from '../server/upstream/failure.ts'
import { checkHead, type UpstreamModel } from '../server/upstream/start-checks.ts'
import { createTransport, type Transport } from '../server/upstream/transport.ts'
import { createUpstream, type Upstream } from '../server/upstream/upstream.ts'
import { within } from './support/deadline.ts'
import type { FakeVllm } from './support/fake-vllm.ts'
import { createRequest } from './support/scripted-model.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { failureIn, patience, textOfEvents, type WorldOptions } from './support/upstream-world.ts'
import { createWorlds, withAdapter } from './support/upstream-worlds.ts'

const root = createTempFolder()
const { startFake, start } = createWorlds(root)

const startFails = async (fake: FakeVllm, pattern: RegExp, options: Partial<WorldOptions> = {}) => {
  await assert.rejects(start([fake], options), (error) => {
    assert.ok(error instanceof ServerError, String(error))
    assert.equal(error.code, 'invalid_config')
    assert.match(error.message, pattern)
    return true
  })
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

describe('the start over vLLM', () => {
  it('says what is wrong with an upstream, and what to change', async () => {
    await startFails(await startFake({ loadsAtRuntime: false }), /ALLOW_RUNTIME_LORA_UPDATING/)
    await startFails(await startFake({ encode: (text) => [...Buffer.from(text)] }), /tokenizer/)
    const loraOff = await startFake()
    loraOff.state.answer = ({ path, body }) =>
      path === '/v1/load_lora_adapter' && body.lora_name ? { status: 500, body: {} } : undefined
    await assert.rejects(start([loraOff]), /must run with --enable-lora/)
    const fake = await startFake({ maxRank: 4 })
    await assert.rejects(start([fake]), /--max-lora-rank must be at least --max-adapter-rank/)
    await startFails(
      await startFake({ preparesHead: true }),
      /lm_head.* --lora-target-modules q_proj/,
    )
    await startFails(await startFake({ maxLoras: 2 }), /3: it holds 2 at once: .*--max-loras/, {
      slots: 3,
    })
  })

  it('a check of lm_head that is given up takes its adapter out again', async () => {
    const given = new AbortController()
    const names: string[] = []
    const transport = {
      text({ path, body, signal }: { path: string; body: string; signal: AbortSignal }) {
        signal.throwIfAborted()
        if (path.endsWith('_lora_adapter')) names.push(`${path} ${JSON.parse(body).lora_name}`)
        else given.abort(new Error('given up'))
        signal.throwIfAborted()
        return Promise.resolve('')
      },
    } as unknown as Transport
    const folders = { pathOfPair: async () => 'head' } as unknown as AdapterFolders
    const config = {} as ModelConfig
    const model = { name: 'base' } as UpstreamModel
    const check = checkHead({ transport, folders }, config, model, [1], given.signal)
    await assert.rejects(check, /given up/)
    const [loaded, unloaded] = names.map((call) => call.split(' '))
    assert.deepEqual(
      [loaded?.[0], unloaded?.[0]],
      ['/v1/load_lora_adapter', '/v1/unload_lora_adapter'],
    )
    assert.equal(unloaded?.[1], loaded?.[1])
  })

  it('an upstream that has adapters of another front’s folder ends it, and is named so', async () => {
    const fake = await startFake()
    await start([fake])
    await assert.rejects(start([fake]), /from another folder: .*same --upstream-adapters/)
  })

  it('another base than the recorded one ends it; the same base does not', async () => {
    const { dir } = await start([await startFake()])
    await start([await startFake()], { dir })
    await startFails(await startFake({ seed: 2 }), /fingerprint/, { dir })
  })

  it('a recorded fingerprint of another checkpoint, or a broken one, ends it', async () => {
    const dir = join(root, 'broken-record')
    await start([await startFake()], { dir })
    writeFileSync(join(dir, 'fingerprint.json'), '{')
    await startFails(await startFake(), /cannot be read/, { dir })
  })

  it('asks for what is missing and harmless in notices', async () => {
    const fake = await startFake({ tellsSlots: false, tellsCached: false })
    const { notices } = await start([fake])
    assert.ok(notices.some((notice) => notice.includes('--max-loras')))
    assert.ok(notices.some((notice) => notice.includes('--enable-prompt-tokens-details')))
  })

  it('waits for an upstream that is not there yet', async () => {
    const port = await freePort()
    let numWaits = 0
    let late: Promise<FakeVllm> | undefined
    const onProgress = () => {
      if (++numWaits === 5) late = startFake({ port })
    }
    const world = await start([{ url: `http://127.0.0.1:${port}` }], { onProgress })
    await late
    assert.equal(failureIn(await world.run(withAdapter('1', 'a1'))), null)
  })

  it('a slow answer is no standstill: progress is told while it is waited for', async () => {
    const fake = await startFake()
    let isSlow = true
    let numTold = 0
    let numMeanwhile = 0
    fake.state.beforeToken = async () => {
      if (!isSlow) return
      isSlow = false
      const before = numTold
      await sleep(2500)
      numMeanwhile = numTold - before
    }
    await start([fake], { onProgress: () => numTold++ })
    assert.ok(numMeanwhile >= 1, `${numMeanwhile}`)
  })

  it('the context is the smaller of both', async () => {
    const world = await start([await startFake({ maxContext: 100 })])
    assert.equal(world.engine.model.maxContext, 100)
    const events = await world.run(createRequest({ id: '1', maxTokens: 120 }))
    assert.equal(failureIn(events)?.code, 'context_length_exceeded')
  })

  it('a server that is no vLLM, or that refuses the key, ends it', async () => {
    const other = await startFake()
    other.state.answer = ({ path }) =>
      path === '/v1/models' ? { status: 200, body: { object: 'list' } } : undefined
    await startFails(other, /is it vLLM/)
    const locked = await startFake()
    locked.state.answer = ({ path }) =>
      path === '/health' ? undefined : { status: 401, body: { error: 'Unauthorized' } }
    await startFails(locked, /--upstream-key-file/)
  })

  it('a key goes with every call', async () => {
    const fake = await startFake()
    await start([fake], { key: 'secret' })
    assert.ok(fake.keys.size === 1 && fake.keys.has('Bearer secret'))
  })
})

describe('an upstream that fails', () => {
  it('in a stream: the request fails once, nothing is said twice, the engine goes on', async () => {
    const fake = await startFake()
    const world = await start([fake])
    fake.state.beforeToken = async (said, body) => {
      if (body.stream !== true || said !== 2) return
      const isTold = () => world.eventsOf('1').some(({ kind }) => kind === 'delta')
      await world.until('a delta', isTold)
      fake.state.isDead = true
    }
    const events = await world.run(createRequest({ id: '1', maxTokens: 10 }))
    assert.equal(failureIn(events)?.code, 'engine_crashed')
    assert.ok(textOfEvents(events).length >= 1)
    assert.equal(events.filter(({ kind }) => kind === 'failed').length, 1)
  })

  it('by silence in a stream: the request ends after --upstream-timeout', async () => {
    const fake = await startFake()
    const world = await start([fake], { silenceMs: 50 })
    let goOn = () => {}
    const held = new Promise<void>((resolve) => (goOn = resolve))
    fake.state.beforeToken = (said, body) => (body.stream === true && said === 2 ? held : undefined)
    const events = await world.run(createRequest({ id: '1', maxTokens: 10 }))
    goOn()
    assert.equal(failureIn(events)?.code, 'timeout')
  })

  const answers = {
    busy: { status: 429, code: 'rate_limit_exceeded' },
    refusing: { status: 400, code: 'server_error' },
    failing: { status: 500, code: 'server_error' },
    'behind a gateway that does not reach it': { status: 502, code: 'upstream_unavailable' },
    'of another kind': { status: 200, code: 'upstream_unavailable' },
  }
  for (const [title, { status, code }] of Object.entries(answers)) {
    it(`${title} (${status}): its own words stay away from clients`, async () => {
      const fake = await startFake()
      const world = await start([fake])
      const body = { error: { message: 'SECRET /root/path', param: null, code: status } }
      fake.state.answer = ({ path }) => (path === '/v1/completions' ? { status, body } : undefined)
      const failure = failureIn(await world.run(createRequest({ id: '1' })))
      assert.equal(failure?.code, code)
      assert.doesNotMatch(failure!.message, /SECRET/)
    })
  }

  for (const code of [400, 500]) {
    it(`over a form that is asked for (${code}): the field is named`, async () => {
      const fake = await startFake()
      const world = await start([fake])
      fake.state.events = [{ error: { message: 'Unimplemented keys', param: null, code } }]
      const form = { constraint: { kind: 'json_object' }, constraintField: 'guided_json' } as const
      const failure = failureIn(await world.run(createRequest({ id: '1', ...form })))
      assert.deepEqual([failure?.code, failure?.param], ['unsupported_parameter', 'guided_json'])
      assert.doesNotMatch(failure!.message, /Unimplemented/)
    })
  }

  it('by closing connections that were idle: no request is lost, and it is no outage', async () => {
    const fake = await startFake()
    const world = await start([fake])
    fake.state.dropsKept = true
    for (let i = 1; i <= 6; i++) {
      assert.equal(failureIn(await world.run(withAdapter(`${i}`, `a${i}`))), null)
    }
    assert.deepEqual(world.outages, [])
    assert.deepEqual(
      world.notices.filter((notice) => notice.includes('does not answer')),
      [],
    )
  })

  it('a failure is told in its stream, which has its status by then: once the stream has begun it ends it', async () => {
    const fake = await startFake()
    const world = await start([fake])
    const error = { message: 'SECRET', type: 'InternalServerError', param: null, code: 500 }
    const token = { model: fake.base, choices: [{ index: 0, text: '', token_ids: [65] }] }
    for (const [events, code] of [
      [[{ error }], 'server_error'],
      [[token, { error }], 'engine_crashed'],
    ] as const) {
      fake.state.events = events
      const told = await world.run(createRequest({ id: code }))
      assert.equal(failureIn(told)?.code, code)
      assert.equal(told.filter(({ kind }) => kind === 'failed').length, 1)
    }
  })

  it('an end that was not asked for is no end', async () => {
    const fake = await startFake()
    const world = await start([fake])
    const choices = [{ index: 0, text: '', token_ids: [65], finish_reason: 'stop' }]
    fake.state.events = [{ model: fake.base, choices }]
    const events = await world.run(createRequest({ id: '1' }))
    assert.equal(failureIn(events)?.code, 'engine_crashed')
  })
})

describe('the circuit of an upstream', () => {
  const none: AdapterSet = { applied: [], components: [] }
  const { signal } = new AbortController()
  const fail = () => Promise.reject(new UpstreamFailure('outage', 'status 500'))

  function open(onChange: () => void) {
    const upstream = createUpstream({
      url: 'http://127.0.0.1:1',
      transport: createTransport({ url: 'http://127.0.0.1:1', key: null }),
      registry: {
        hold: async () => ({ name: null, release() {} }),
        renew: async () => {},
        forgetAll() {},
        retire() {},
        names: () => [],
      },
      baseName: () => 'base',
      retryMs: 1500,
      onChange,
    })
    upstream.rise()
    return upstream
  }

  it('opens after three faults in a row, and is tried again after its pause', async () => {
    const changes: boolean[] = []
    let upstream: Upstream | undefined
    upstream = open(() => changes.push(upstream?.isOpen ?? true))
    for (let i = 0; i < 3; i++) {
      assert.equal(upstream.isOpen, true)
      await assert.rejects(upstream.use(none, signal, fail), /status 500/)
    }
    assert.equal(upstream.isOpen, false)
    await assert.rejects(
      upstream.use(none, signal, async () => 'never asked'),
      /circuit is open/,
    )
    const isTried = async () => {
      while (!upstream.isOpen) await sleep(5)
    }
    await within(patience, 'an end of the pause', isTried())
    // The trial fails: another pause.
    await assert.rejects(upstream.use(none, signal, fail), /status 500/)
    assert.equal(upstream.isOpen, false)
    await within(patience, 'a second end', isTried())
    assert.equal((await upstream.use(none, signal, async () => 'good')).value, 'good')
    assert.equal(upstream.isOpen, true)
    assert.deepEqual(changes.slice(-4), [false, true, false, true])
  })

  it('is closed when all checks have passed', async () => {
    const upstream = open(() => {})
    for (let i = 0; i < 3; i++) await assert.rejects(upstream.use(none, signal, fail))
    upstream.fall()
    upstream.rise()
    assert.equal((await upstream.use(none, signal, async () => 'good')).value, 'good')
  })

  it('the engine says when no upstream serves, and when one does again', async () => {
    const both = [await startFake(), await startFake()]
    const world = await start(both)
    assert.deepEqual(world.outages, [])
    for (const fake of both) fake.state.isDead = true
    await world.until('an outage', () => world.outages.length > 0)
    both[1]!.restart()
    await world.until('its end', () => world.outages.length > 1)
    assert.deepEqual(world.outages, ['upstream_unavailable', null])
    assert.equal(failureIn(await world.run(createRequest({ id: '1' }))), null)
  })
})
