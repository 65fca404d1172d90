// The engine process for real: models/tiny-reasoner behind IPC, killed, stopped and misused. Every
// request ends in exactly one terminal event, and the next one works.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, readdirSync, renameSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import type {
  EngineOptions,
  EngineState,
  Generation,
  TokenizeInput,
} from '../server/contracts/engine.ts'
import { type GenerationEvent, isTerminal } from '../server/contracts/generation.ts'
import type { Observer } from '../server/contracts/observer.ts'
import { createEngineClient, type LocalEngineClient } from '../server/engine-client/client.ts'
import { createDeferred } from '../server/engine-client/deferred.ts'
import type { EngineLimits } from '../server/engine-client/engine-process.ts'
import { createReplaceableClient } from '../server/engine-client/replaceable-client.ts'
import { within } from './support/deadline.ts'
import { root } from './support/root.ts'
import { createRequest, textOf } from './support/scripted-model.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { loraTensors, upTensors, writeAdapter } from './support/tensor-files.ts'

/** Loading the model included, on a busy machine. */
const patience = 60_000
const turn = { client: 'client', request: 'text' }
const reasoner = join(root, 'models', 'tiny-reasoner')
const temp = createTempFolder()
const adapters = join(temp, 'adapters')

const engineOptions: EngineOptions = {
  model: reasoner,
  servedModelName: 'tiny-reasoner',
  adapters,
  guard: 'none',
  operatorsAdapters: [],
  adapterModules: ['up_proj'],
  scansAdapters: true,
  upstream: null,
  merged: [],
  acceptsOtherBases: false,
  guardExact: false,
  device: 'cpu',
  onnxruntime: null,
  kernels: 'auto',
  kvCacheDtype: 'auto',
  weights: 'auto',
  weightBlock: null,
  weightZeroPoints: null,
  maxBatch: 2,
  maxContext: 1024,
  kvMemoryBytes: 64 * 2 ** 20,
  maxAdapterRank: 4,
  adapterMemoryBytes: null,
  threads: 1,
  cacheDir: join(temp, 'cache'),
}

/** An observer that only listens for what is given. */
function startObserver(heard: Partial<Observer> = {}): Observer {
  const ignore = () => {}
  return {
    httpResponse: ignore,
    clientDisconnected: ignore,
    firstToken: ignore,
    interToken: ignore,
    requestFinished: ignore,
    verdict: ignore,
    blocked: ignore,
    escalated: ignore,
    floorRefused: ignore,
    guardAsked: ignore,
    mergeEnded: ignore,
    adapterChanged: ignore,
    uploaded: ignore,
    keyUsed: ignore,
    keyTokens: ignore,
    engineStats: ignore,
    engineReady: ignore,
    engineState: ignore,
    engineRestarted: ignore,
    engineReplaced: ignore,
    ...heard,
  }
}

/** A client and what it told its observer. */
function startClient(options: Partial<EngineOptions> = {}, limits: Partial<EngineLimits> = {}) {
  const states: EngineState[] = []
  const restartReasons: string[] = []
  const warnings: string[] = []
  const waits: { state: EngineState; resolve: () => void }[] = []
  const ignore = () => {}
  const observer = startObserver({
    engineState(state) {
      states.push(state)
      for (const wait of waits) if (wait.state === state) wait.resolve()
    },
    engineRestarted: (reason) => restartReasons.push(reason),
  })
  const client = createEngineClient({
    options: { ...engineOptions, ...options },
    observer,
    logger: {
      debug: ignore,
      info: ignore,
      warn: (_, message) => warnings.push(message),
      error: ignore,
    },
    limits: { firstBackoffMs: 10, ...limits },
  })
  return {
    client,
    states,
    restartReasons,
    warnings,
    /** Resolves at the next change to that state; call it before what causes the change. */
    next(state: EngineState): Promise<void> {
      const { promise, resolve } = createDeferred<void>()
      waits.push({ state, resolve })
      return within(patience, `state ${state}`, promise)
    },
    ready: () => within(patience, 'ready engine', client.ready()),
  }
}

let numRequests = 0
type RequestFields = NonNullable<Parameters<typeof createRequest>[0]>

const newRequest = (fields: RequestFields = {}) =>
  createRequest({
    id: `request ${numRequests++}`,
    prompt: { kind: 'messages', messages: [{ role: 'user', content: 'What is 12 + 30?' }] },
    maxTokens: 12,
    ...fields,
  })

/** So long that it cannot end by itself while a test looks at it. */
const endless = (fields: RequestFields = {}) =>
  newRequest({ maxTokens: 900, sampling: { ignoreEos: true }, ...fields })

function collect({ id, events }: Generation): Promise<GenerationEvent[]> {
  const read = async () => {
    const all: GenerationEvent[] = []
    for await (const event of events) all.push(event)
    return all
  }
  return within(patience, `end of ${id}`, read())
}

/** Reads until an event that fits; reading goes on in `rest`. */
async function readUntil(generation: Generation, kind: GenerationEvent['kind']) {
  const iterator = generation.events[Symbol.asyncIterator]()
  const seen: GenerationEvent[] = []
  const read = async () => {
    for (;;) {
      const { value, done } = await iterator.next()
      if (done) return
      seen.push(value)
      if (value.kind === kind) return
    }
  }
  await within(patience, `${kind} of ${generation.id}`, read())
  assert.equal(seen.at(-1)?.kind, kind, JSON.stringify(seen.at(-1)))
  return {
    async rest(): Promise<GenerationEvent[]> {
      const drain = async () => {
        for (;;) {
          const { value, done } = await iterator.next()
          if (done) return
          seen.push(value)
        }
      }
      await within(patience, `end of ${generation.id}`, drain())
      return seen
    },
  }
}

function assertFailed(events: readonly GenerationEvent[], code: string): string {
  const end = events.at(-1)
  assert.ok(end?.kind === 'failed', `ends in ${end?.kind}`)
  assert.equal(end.error.code, code)
  assert.equal(events.filter(isTerminal).length, 1)
  return end.error.message
}

/** A rank-2 adapter that changes every answer. */
function writeStrong(folder: string, id: string, seed: number): void {
  const checkpoint = openCheckpoint(reasoner)
  const { config: model } = checkpoint
  checkpoint.close()
  const layers = Array.from({ length: model.numLayers }, (_, layer) => layer)
  const tensors = upTensors({ rank: 2, layers, seed, model })
  writeAdapter(folder, id, { config: { r: 2, lora_alpha: 8 }, tensors })
}

before(() => {
  writeStrong(adapters, 'strong', 3)
  writeAdapter(adapters, 'broken', { config: '{' })
})

it('a damaged conversion is a warning of the front, not an end', async () => {
  const cacheDir = join(temp, 'damaged-cache')
  const first = startClient({ cacheDir })
  await first.ready()
  await first.client.close({ force: true })
  assert.deepEqual(first.warnings, [])
  for (const name of readdirSync(cacheDir)) {
    if (name !== 'hashes') truncateSync(join(cacheDir, name, 'weights.bin'), 4096)
  }
  const second = startClient({ cacheDir })
  await second.ready()
  const events = await collect(second.client.submit(newRequest()))
  await second.client.close({ force: true })
  assert.equal(events.at(-1)?.kind, 'done')
  assert.equal(second.warnings.length, 1)
  assert.match(second.warnings[0]!, /is damaged \(weights\.bin has 4096 bytes/)
})

describe('an engine process', () => {
  let engine: ReturnType<typeof startClient>

  before(async () => {
    engine = startClient()
    await engine.ready()
  })
  after(() => engine.client.close({ force: true }))

  it('says what it serves', async () => {
    const model = await engine.ready()
    assert.equal(model.id, 'tiny-reasoner')
    assert.equal(model.architecture, 'Qwen2ForCausalLM')
    assert.equal(model.maxContext, 1024)
    assert.ok(model.numParameters > 1e6)
    assert.deepEqual(engine.states, ['loading', 'ready'])
    assert.equal(engine.client.state, 'ready')
    assert.deepEqual(engine.client.model, model)
  })

  it('answers: accepted, then text, then the end of the choice, then done', async () => {
    const events = await collect(engine.client.submit(newRequest()))
    assert.ok(events[0]?.kind === 'accepted')
    assert.ok(events[0].promptTokens > 5)
    assert.deepEqual(events[0].adapters, [])
    assert.notEqual(textOf(events), '')
    const [choice, end] = events.slice(-2)
    assert.ok(choice?.kind === 'choice_finished' && end?.kind === 'done')
    assert.ok(choice.usage.completionTokens <= 12)
  })

  it('applies an adapter, says which, and switches back', async () => {
    const base = textOf(await collect(engine.client.submit(newRequest())))
    const strong = newRequest({ adapters: [{ id: 'strong', scale: null }] })
    const events = await collect(engine.client.submit(strong))
    assert.ok(events[0]?.kind === 'accepted')
    assert.equal(events[0].adapters[0]?.id, 'strong')
    assert.match(events[0].adapters[0]?.digest ?? '', /^[0-9a-f]{64}$/)
    assert.notEqual(textOf(events), base)
    assert.equal(textOf(await collect(engine.client.submit(newRequest()))), base)
    const off = newRequest({ adapters: [{ id: 'strong', scale: 0 }] })
    assert.equal(textOf(await collect(engine.client.submit(off))), base)
  })

  it('gives the same tokens for the same seed alone and in company', async () => {
    const seeded = () => newRequest({ maxTokens: 40, sampling: { temperature: 1, seed: 11n } })
    const alone = textOf(await collect(engine.client.submit(seeded())))
    const others = [1n, 2n, 3n].map((seed) =>
      engine.client.submit(
        newRequest({
          maxTokens: 40,
          adapters: [{ id: 'strong', scale: 1 }],
          sampling: { temperature: 1, seed },
        }),
      ),
    )
    const it = engine.client.submit(seeded())
    const [got] = await Promise.all([it, ...others].map(collect))
    assert.equal(textOf(got ?? []), alone)
  })

  it('a swap mid-stream leaves running rows on the adapter they began with', async () => {
    writeStrong(adapters, 'changing', 7)
    writeStrong(join(temp, 'later'), 'changing', 8)
    const request = () => endless({ maxTokens: 300, adapters: [{ id: 'changing', scale: null }] })
    const digestOf = ([first]: readonly GenerationEvent[]) =>
      first?.kind === 'accepted' ? first.adapters[0]?.digest : undefined
    const old = await collect(engine.client.submit(request()))

    const { rest } = await readUntil(engine.client.submit(request()), 'delta')
    renameSync(join(adapters, 'changing'), join(temp, 'former'))
    renameSync(join(temp, 'later', 'changing'), join(adapters, 'changing'))
    const changed = await collect(engine.client.submit(request()))
    const running = await rest()

    assert.equal(digestOf(running), digestOf(old))
    assert.equal(textOf(running), textOf(old))
    assert.notEqual(digestOf(changed), digestOf(old))
    assert.notEqual(textOf(changed), textOf(old))

    // Gone from the folder means gone for new requests.
    renameSync(join(adapters, 'changing'), join(temp, 'gone'))
    assertFailed(await collect(engine.client.submit(request())), 'model_not_found')
  })

  it('cancels before the first token: a request that waits for a row', async () => {
    const running = [endless(), endless()].map((request) => engine.client.submit(request))
    const reads = await Promise.all(running.map((generation) => readUntil(generation, 'delta')))
    const waiting = engine.client.submit(endless())
    const read = await readUntil(waiting, 'accepted')
    waiting.cancel()
    waiting.cancel()
    assert.deepEqual(
      (await read.rest()).map(({ kind }) => kind),
      ['accepted', 'cancelled'],
    )
    for (const generation of running) generation.cancel()
    for (const { rest } of reads) assert.equal((await rest()).at(-1)?.kind, 'cancelled')
  })

  it('cancels mid-stream, and its row is free for the next', async () => {
    const generation = engine.client.submit(endless())
    const { rest } = await readUntil(generation, 'delta')
    generation.cancel()
    const events = await rest()
    assert.equal(events.at(-1)?.kind, 'cancelled')
    assert.equal(events.filter(isTerminal).length, 1)
    assert.ok(events.length < 900)
    generation.cancel()
    assert.equal((await collect(engine.client.submit(newRequest()))).at(-1)?.kind, 'done')
  })

  it('cancels at once, however early: a request ends once and the next one works', async () => {
    for (let i = 0; i < 20; i++) {
      // Half of them while their adapter is still being found.
      const adapters = i % 2 === 0 ? [] : [{ id: 'strong', scale: null }]
      const generation = engine.client.submit(endless({ adapters }))
      generation.cancel()
      const events = await collect(generation)
      assert.equal(events.at(-1)?.kind, 'cancelled')
    }
    assert.equal((await collect(engine.client.submit(newRequest()))).at(-1)?.kind, 'done')
  })

  it('refuses an unknown adapter and a broken one, before accepting', async () => {
    const unknown = newRequest({ adapters: [{ id: 'no-such', scale: null }] })
    const events = await collect(engine.client.submit(unknown))
    assert.equal(events.length, 1)
    assert.match(assertFailed(events, 'model_not_found'), /no-such/)
    const broken = newRequest({ adapters: [{ id: 'broken', scale: null }] })
    assertFailed(await collect(engine.client.submit(broken)), 'invalid_adapter')
  })

  it('refuses a prompt beyond the context with both numbers, and one that leaves no room', async () => {
    const tokens = new Array<number>(1500).fill(5)
    const long = newRequest({ prompt: { kind: 'tokens', tokens }, maxTokens: null })
    const message = assertFailed(
      await collect(engine.client.submit(long)),
      'context_length_exceeded',
    )
    assert.match(message, /1024/)
    assert.match(message, /1500/)
    const full = { kind: 'tokens', tokens: tokens.slice(0, 1020) } as const
    const tooMany = newRequest({ prompt: full, maxTokens: 5 })
    assertFailed(await collect(engine.client.submit(tooMany)), 'context_length_exceeded')
    const fits = await collect(engine.client.submit(newRequest({ prompt: full, maxTokens: 4 })))
    assert.equal(fits.at(-1)?.kind, 'done')
  })

  it('fills the context to its last position and ends by length', async () => {
    const tokens = new Array<number>(1000).fill(5)
    const request = endless({ prompt: { kind: 'tokens', tokens }, maxTokens: null })
    const events = await collect(engine.client.submit(request))
    const end = events.at(-2)
    assert.ok(end?.kind === 'choice_finished')
    assert.equal(end.reason, 'length')
    assert.equal(end.usage.completionTokens, 24)
  })

  it('refuses an empty prompt', async () => {
    const empty = newRequest({ prompt: { kind: 'tokens', tokens: [] } })
    assertFailed(await collect(engine.client.submit(empty)), 'invalid_value')
  })

  it('lives through a token id that the model does not have', async () => {
    const odd = newRequest({ prompt: { kind: 'tokens', tokens: [5, 999_999] } })
    const events = await collect(engine.client.submit(odd))
    assert.equal(events.at(-1)?.kind, 'failed')
    assert.equal((await collect(engine.client.submit(newRequest()))).at(-1)?.kind, 'done')
    assert.equal(engine.client.restarts, 0)
  })

  it('one token of a client comes while 960 sequences of another run; costly texts are refused', async () => {
    const greedy = Array.from({ length: 60 }, (_, i) => {
      const turn = { client: 'greedy', request: 'many' }
      const prompt = { kind: 'text', text: `${i} and` } as const
      return engine.client.submit(newRequest({ turn, prompt, n: 16, maxTokens: 100 }))
    })
    const turn = { client: 'other', request: 'one' }
    const text = '7'.repeat(500_000)
    const costly = engine.client.submit(newRequest({ turn, prompt: { kind: 'text', text } }))
    assertFailed(await collect(costly), 'context_length_exceeded')
    const small = await collect(engine.client.submit(newRequest({ turn, maxTokens: 1 })))
    assert.equal(small.at(-1)?.kind, 'done')
    const last = greedy.at(-1)!
    for (const generation of greedy) generation.cancel()
    assert.equal((await collect(last)).at(-1)?.kind, 'cancelled')
  })

  it('tokenizes, detokenizes and lists adapters beside running requests', async () => {
    const running = engine.client.submit(endless())
    const { rest } = await readUntil(running, 'delta')
    const text = 'A duck 🦆 costs 12.'
    const input = { kind: 'text', text, addSpecialTokens: false, withTokenStrings: true } as const
    const asked = engine.client.tokenize(input, turn)
    const tokenized = await within(patience, 'tokenize', asked)
    const tokens: number[] = JSON.parse(tokenized.tokens)
    assert.equal(tokens.length, tokenized.count)
    assert.equal(JSON.parse(tokenized.tokenStrings).length, tokenized.count)
    const back = await within(patience, 'detokenize', engine.client.detokenize(tokens, turn))
    assert.equal(back, text)
    const list = await within(patience, 'adapters', engine.client.listAdapters())
    assert.deepEqual(
      list.map(({ id, state }) => [id, state]),
      [
        ['broken', 'invalid'],
        ['strong', 'resident'],
      ],
    )
    running.cancel()
    await rest()
  })
})

describe('an engine process whose adapter memory is full', () => {
  it('lets a request wait until there is room, or until it is cancelled', async () => {
    const folder = join(temp, 'crowded')
    for (const [i, id] of ['first', 'second'].entries()) writeStrong(folder, id, 20 + i)
    const checkpoint = openCheckpoint(reasoner)
    const { numLayers, hiddenSize, intermediateSize } = checkpoint.config
    checkpoint.close()
    const oneAdapter = 2 * numLayers * (hiddenSize + intermediateSize) * 4
    const engine = startClient({ adapters: folder, adapterMemoryBytes: oneAdapter })
    try {
      await engine.ready()
      const using = (id: string) => ({ adapters: [{ id, scale: null }] })
      const running = engine.client.submit(endless(using('first')))
      const { rest } = await readUntil(running, 'delta')
      const impatient = engine.client.submit(newRequest(using('second')))
      const patient = engine.client.submit(newRequest(using('second')))
      const answer = collect(patient)
      // Both are in by then: messages come in order.
      await within(patience, 'adapters', engine.client.listAdapters())
      impatient.cancel()
      assert.deepEqual(
        (await collect(impatient)).map(({ kind }) => kind),
        ['cancelled'],
      )
      running.cancel()
      await rest()
      assert.equal((await answer).at(-1)?.kind, 'done')
    } finally {
      await engine.client.close({ force: true })
    }
  })
})

/** A rank-1 adapter on q_proj that changes every answer. */
function writeQuery(folder: string, id: string): void {
  const checkpoint = openCheckpoint(reasoner)
  const { config: model } = checkpoint
  checkpoint.close()
  const layers = Array.from({ length: model.numLayers }, (_, layer) => layer)
  const modules = ['q_proj'] as const
  const tensors = loraTensors({ rank: 1, layers, modules, seed: 5, model })
  writeAdapter(folder, id, { config: { r: 1, lora_alpha: 8 }, tensors })
}

describe('an engine process that is replaced', () => {
  it('for an adapter of another module: a stream ends on the old one, which then ends', async () => {
    const folder = join(temp, 'growing')
    writeStrong(folder, 'strong', 3)
    const clients: LocalEngineClient[] = []
    const ignore = () => {}
    const logger = { debug: ignore, info: ignore, warn: ignore, error: ignore }
    const client = createReplaceableClient({
      options: { ...engineOptions, adapters: folder },
      create(options, observer) {
        const started = createEngineClient({ options, observer, logger })
        clients.push(started)
        return started
      },
      observer: startObserver(),
      logger,
      availableBytes: () => Number.POSITIVE_INFINITY,
    })
    try {
      const { adapterModules } = await within(patience, 'ready engine', client.ready())
      assert.deepEqual(adapterModules, ['up_proj'])
      const strong = () => endless({ adapters: [{ id: 'strong', scale: null }] })
      const alone = await collect(client.submit(strong()))
      const base = textOf(await collect(client.submit(newRequest())))

      const { rest } = await readUntil(client.submit(strong()), 'delta')
      writeQuery(folder, 'query')
      const query = newRequest({ adapters: [{ id: 'query', scale: null }] })
      const events = await collect(client.submit(query))
      assert.ok(events[0]?.kind === 'accepted', JSON.stringify(events))
      assert.equal(events[0].adapters[0]?.id, 'query')
      assert.notEqual(textOf(events), base)
      assert.deepEqual(client.model?.adapterModules, ['q_proj', 'up_proj'])

      // The stream ran on, over or after the replacement, and is what it was alone.
      const stream = await rest()
      assert.equal(stream.at(-1)?.kind, 'done')
      assert.equal(textOf(stream), textOf(alone))
      assert.equal(textOf(await collect(client.submit(newRequest()))), base)
      const [old, next] = clients
      await within(patience, 'end of the old engine', old!.close())
      assert.throws(() => process.kill(old!.pid!, 0), { code: 'ESRCH' })
      assert.equal(next!.state, 'ready')
      assert.equal(client.restarts, 0)
    } finally {
      await client.close({ force: true })
    }
    assert.equal(clients.length, 2)
  })

  it('not, where the other engine cannot start: the old one goes on', async () => {
    const folder = join(temp, 'stuck')
    const model = join(temp, 'copied-reasoner')
    cpSync(reasoner, model, { recursive: true })
    writeStrong(folder, 'strong', 3)
    const ignore = () => {}
    const logger = { debug: ignore, info: ignore, warn: ignore, error: ignore }
    const client = createReplaceableClient({
      options: { ...engineOptions, model, adapters: folder },
      create: (options, observer) => createEngineClient({ options, observer, logger }),
      observer: startObserver(),
      logger,
      availableBytes: () => Number.POSITIVE_INFINITY,
    })
    try {
      await within(patience, 'ready engine', client.ready())
      writeFileSync(join(model, 'config.json'), '{')
      writeQuery(folder, 'query')
      const query = () => newRequest({ adapters: [{ id: 'query', scale: null }] })
      assertFailed(await collect(client.submit(query())), 'adapter_unavailable')
      assertFailed(await collect(client.submit(query())), 'unsupported_adapter')
      const strong = newRequest({ adapters: [{ id: 'strong', scale: null }] })
      assert.equal((await collect(client.submit(strong))).at(-1)?.kind, 'done')
    } finally {
      await client.close({ force: true })
    }
  })
})

describe('an engine process that dies', () => {
  it('fails its running requests once, is started again, and answers the next request', async () => {
    const engine = startClient()
    try {
      await engine.ready()
      const running = engine.client.submit(endless())
      const waiting = [endless(), endless()].map((request) => engine.client.submit(request))
      const { rest } = await readUntil(running, 'delta')
      const restarting = engine.next('restarting')
      const ready = engine.next('ready')
      const firstPid = engine.client.pid as number
      process.kill(firstPid, 'SIGKILL')
      // It is not known to be gone yet: these are sent to nobody, and end all the same.
      const late = Array.from({ length: 5 }, () => engine.client.submit(newRequest()))
      const input = { kind: 'text', text: 'x', addSpecialTokens: false, withTokenStrings: false }
      const question = engine.client.tokenize(input as TokenizeInput, turn)
      await assert.rejects(within(patience, 'tokenize', question), { code: 'engine_crashed' })
      assertFailed(await rest(), 'engine_crashed')
      for (const generation of [...waiting, ...late]) {
        assertFailed(await collect(generation), 'engine_crashed')
      }
      await restarting
      const meanwhile = engine.client.state
      assert.ok(meanwhile === 'restarting' || meanwhile === 'ready')
      await ready
      assert.notEqual(engine.client.pid, firstPid)
      assert.equal((await collect(engine.client.submit(newRequest()))).at(-1)?.kind, 'done')
      assert.equal(engine.client.restarts, 1)
      assert.deepEqual(engine.restartReasons, ['crashed'])
      assert.deepEqual(engine.states, ['loading', 'ready', 'restarting', 'ready'])
    } finally {
      await engine.client.close({ force: true })
    }
  })

  it('refuses requests while it restarts', async () => {
    const engine = startClient({}, { firstBackoffMs: patience, maxBackoffMs: patience })
    try {
      await engine.ready()
      const restarting = engine.next('restarting')
      process.kill(engine.client.pid as number, 'SIGKILL')
      await restarting
      assertFailed(await collect(engine.client.submit(newRequest())), 'model_loading')
      await assert.rejects(engine.client.listAdapters(), { code: 'model_loading' })
    } finally {
      await engine.client.close()
    }
  })

  it('is killed and started again when it falls silent', async () => {
    // A heart beats twice a second; four seconds of silence are a stuck process here.
    const engine = startClient({}, { silenceMs: 4_000, watchIntervalMs: 50 })
    try {
      await engine.ready()
      const running = engine.client.submit(endless())
      const { rest } = await readUntil(running, 'delta')
      const ready = engine.next('ready')
      process.kill(engine.client.pid as number, 'SIGSTOP')
      assertFailed(await rest(), 'engine_crashed')
      await ready
      assert.equal(engine.restartReasons[0], 'hung')
      assert.equal((await collect(engine.client.submit(newRequest()))).at(-1)?.kind, 'done')
    } finally {
      await engine.client.close({ force: true })
    }
  })
})

describe('an engine process that cannot start', () => {
  for (const [title, prepare, code] of [
    ['a folder without a checkpoint', () => {}, 'invalid_checkpoint'],
    [
      'a config that is not JSON',
      (dir: string) => writeFileSync(join(dir, 'config.json'), '{'),
      'invalid_checkpoint',
    ],
    [
      'a model of another kind',
      (dir: string) =>
        writeFileSync(join(dir, 'config.json'), '{"architectures":["BertForMaskedLM"]}'),
      'unsupported_checkpoint',
    ],
  ] as const) {
    it(`says why: ${title}`, async () => {
      const model = join(temp, `bad-${title.replaceAll(' ', '-')}`)
      mkdirSync(model)
      prepare(model)
      const engine = startClient({ model })
      const stopped = engine.next('stopped')
      try {
        await assert.rejects(engine.ready(), (error: { code?: string; message?: string }) => {
          assert.equal(error.code, code, error.message)
          assert.doesNotMatch(error.message ?? '', /ended while loading/)
          return true
        })
        await stopped
        assertFailed(await collect(engine.client.submit(newRequest())), 'shutting_down')
        assert.equal(engine.client.restarts, 0)
      } finally {
        await engine.client.close()
      }
    })
  }

  it('says so when it is killed while it loads, each time', async () => {
    const engine = startClient({}, { firstStarts: 1 })
    try {
      process.kill(engine.client.pid as number, 'SIGKILL')
      await assert.rejects(engine.ready(), {
        code: 'invalid_checkpoint',
        message: /ended while loading, 1 time \(SIGKILL\)/,
      })
    } finally {
      await engine.client.close()
    }
  })

  it('is started again when it is killed once while it loads', async () => {
    const engine = startClient()
    try {
      process.kill(engine.client.pid as number, 'SIGKILL')
      await engine.ready()
      assert.equal((await collect(engine.client.submit(newRequest()))).at(-1)?.kind, 'done')
    } finally {
      await engine.client.close()
    }
  })
})

describe('closing', () => {
  it('lets running requests end, and takes no more', async () => {
    const engine = startClient()
    await engine.ready()
    const running = engine.client.submit(newRequest({ maxTokens: 60 }))
    const { rest } = await readUntil(running, 'delta')
    const closed = engine.client.close()
    assertFailed(await collect(engine.client.submit(newRequest())), 'shutting_down')
    assert.equal((await rest()).at(-1)?.kind, 'done')
    await within(patience, 'close', closed)
    assert.equal(engine.client.state, 'stopped')
    await within(patience, 'second close', engine.client.close())
    assert.equal(engine.client.restarts, 0)
  })

  it('by force ends running requests at once', async () => {
    const engine = startClient()
    await engine.ready()
    const running = engine.client.submit(endless())
    const { rest } = await readUntil(running, 'delta')
    await within(patience, 'close', engine.client.close({ force: true }))
    assertFailed(await rest(), 'shutting_down')
  })

  it('ends the wait for an engine that is still loading', async () => {
    const engine = startClient()
    const ready = assert.rejects(engine.ready(), { code: 'shutting_down' })
    await within(patience, 'close', engine.client.close())
    await ready
  })
})
