// A request's way in, over a fake store and a fake loop: what the loop gets, that every request ends in
// exactly one terminal event, and that its adapters are given back exactly once.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type {
  AdapterRef,
  AdapterSelection,
  HeldAdapter,
  ScaledRankOne,
} from '../server/contracts/adapter.ts'
import type { TokenizeInput } from '../server/contracts/engine.ts'
import {
  type GenerateRequest,
  type GenerationEvent,
  isTerminal,
  type Turn,
} from '../server/contracts/generation.ts'
import { createIntake, type IntakeOptions } from '../server/engine/intake.ts'
import { type TextResult, type TextWork, textTask } from '../server/engine/text-task.ts'
import { createDeferred } from '../server/engine-client/deferred.ts'
import { ServerError } from '../server/errors.ts'
import type { Job } from '../server/loop/jobs.ts'
import { loadTokenizer } from '../server/tokenizer/tokenizer.ts'
import { markers, writeByteTokenizer } from './support/byte-tokenizer.ts'
import { within } from './support/deadline.ts'
import { bytesOf, createRequest, numbered } from './support/scripted-model.ts'
import { createTempFolder } from './support/temp-folder.ts'

const patience = 10_000
const maxContext = 32
const temp = createTempFolder()
writeByteTokenizer(temp)
const tokenizer = loadTokenizer(temp)
/** As the threads encode, in this one. */
const texts = {
  async run(work: TextWork): Promise<TextResult> {
    return textTask.run({ dir: temp, work }, () => {})
  },
}
const thoughtStart = tokenizer.idOf('<think>')!

/** One request that asked the store for its adapters. */
interface Acquisition {
  readonly selection: AdapterSelection
  readonly signal: AbortSignal | undefined
  resolve(): void
  reject(error: unknown): void
}

/** Adapters at strength 0.5 unless the request says another. */
function createFakeStore() {
  const acquisitions: Acquisition[] = []
  const numReleases: number[] = []
  const components = new Map<string, ScaledRankOne['component']>()
  let wake = () => {}

  function hold(refs: readonly AdapterRef[], index: number) {
    const scaleOf = ({ scale }: AdapterRef) => scale ?? 0.5
    const each: HeldAdapter[] = refs.map((ref) => {
      const { id, span } = ref
      const component = components.get(id) ?? numbered(components.size)
      components.set(id, component)
      const applied = { id, digest: `digest of ${id}`, scale: scaleOf(ref), ...(span && { span }) }
      return { applied, components: [component], defaultScale: 0.5 }
    })
    return {
      each,
      applied: each.map(({ applied }) => applied),
      components: each.map(({ applied: { scale }, components: [component] }) => {
        return { component: component!, scale }
      }),
      release() {
        numReleases[index]! += 1
      },
    }
  }

  return {
    numReleases,
    acquire(selection: AdapterSelection, signal?: AbortSignal) {
      const { promise, resolve, reject } = createDeferred<ReturnType<typeof hold>>()
      const index = acquisitions.length
      numReleases.push(0)
      const give = () => resolve(hold(selection.adapters, index))
      acquisitions.push({ selection, signal, resolve: give, reject })
      wake()
      return promise
    },
    /** The acquisition of that number, once it was asked for. */
    async asked(number: number): Promise<Acquisition> {
      while (acquisitions.length < number) {
        const { promise, resolve } = createDeferred<void>()
        wake = resolve
        await within(patience, `acquisition ${number}`, promise)
      }
      return acquisitions[number - 1]!
    },
    get numAsked() {
      return acquisitions.length
    },
  }
}

/** Runs nothing by itself; a job ends when a test ends or cancels it, and gives its adapters back then. */
function createFakeLoop(publish: (id: string, event: GenerationEvent) => void) {
  const jobs = new Map<string, Job>()
  const taken: Job[] = []
  let failure: Error | undefined

  function end(id: string, event: GenerationEvent): void {
    const job = jobs.get(id)
    if (job === undefined) return
    jobs.delete(id)
    job.release()
    publish(id, event)
  }

  return {
    taken,
    cancelled: [] as string[],
    failWith(error: Error): void {
      failure = error
    },
    submit(job: Job): void {
      if (failure !== undefined) throw failure
      taken.push(job)
      jobs.set(job.id, job)
    },
    cancel(id: string): void {
      this.cancelled.push(id)
      end(id, { kind: 'cancelled' })
    },
    finish(id: string): void {
      const timing = { queueMs: 0, prefillMs: 0, decodeMs: 0 }
      end(id, { kind: 'done', timing, cachedTokens: 0 })
    },
  }
}

function createWorld(overrides: Partial<IntakeOptions> = {}) {
  const told = new Map<string, GenerationEvent[]>()
  const order: string[] = []
  function tell(id: string, event: GenerationEvent): void {
    told.set(id, [...(told.get(id) ?? []), event])
    order.push(event.kind)
  }
  const store = createFakeStore()
  const loop = createFakeLoop(tell)
  const intake = createIntake({
    tokenizer,
    texts,
    grammars: { open: async () => assert.fail('no grammar') },
    store,
    loop: {
      submit: (job) => {
        order.push('submit')
        loop.submit(job)
      },
      cancel: (id) => loop.cancel(id),
    },
    guard: null,
    maxContext,
    vocabSize: tokenizer.vocabSize,
    eosTokenIds: [1],
    publish: (events) => {
      for (const [id, event] of events) tell(id, event)
    },
    onSubmitted: () => order.push('submitted'),
    ...overrides,
  })
  return {
    intake,
    store,
    loop,
    order,
    submit: (request: GenerateRequest) =>
      within(patience, `submission of ${request.id}`, intake.submit(request)),
    /** Its events; the last one is terminal, and the only one. */
    ended(id = 'request'): readonly GenerationEvent[] {
      const events = told.get(id) ?? []
      assert.equal(events.filter(isTerminal).length, 1, JSON.stringify(events))
      assert.ok(isTerminal(events.at(-1)!), JSON.stringify(events))
      return events
    },
    eventsOf: (id = 'request'): readonly GenerationEvent[] => told.get(id) ?? [],
  }
}

/** A request that was submitted and whose adapters are there. */
async function accept(world: ReturnType<typeof createWorld>, request: GenerateRequest) {
  const number = world.store.numAsked + 1
  const submitted = world.submit(request)
  ;(await world.store.asked(number)).resolve()
  await submitted
  return world.loop.taken.at(-1)!
}

const kinds = (events: readonly GenerationEvent[]) => events.map(({ kind }) => kind)
const adapted = (fields: Parameters<typeof createRequest>[0] = {}) =>
  createRequest({ adapters: [{ id: 'safety', scale: null }], ...fields })
const ofTokens = (count: number) => ({ kind: 'tokens', tokens: Array(count).fill(65) }) as const

function errorOf(events: readonly GenerationEvent[]) {
  const [only] = events
  assert.ok(only?.kind === 'failed' && events.length === 1, JSON.stringify(events))
  return only.error
}

describe('a request that is accepted', () => {
  it('is told of before the loop has it, with its prompt’s length and the strengths applied', async () => {
    const world = createWorld()
    await accept(world, adapted())
    assert.deepEqual(world.order, ['accepted', 'submit', 'submitted'])
    assert.deepEqual(world.eventsOf(), [
      {
        kind: 'accepted',
        promptTokens: 2,
        adapters: [{ id: 'safety', digest: 'digest of safety', scale: 0.5 }],
        guard: null,
      },
    ])
  })

  it('goes to the loop with its tokens, its adapters and what may be generated', async () => {
    const world = createWorld()
    const job = await accept(world, adapted({ maxTokens: 5 }))
    assert.deepEqual([job.id, job.adapterIds, job.sequences.length], ['request', ['safety'], 1])
    const [sequence] = job.sequences
    assert.deepEqual(sequence!.promptTokens, bytesOf('hi'))
    const [first, ...others] = sequence!.componentsAt(0)
    assert.deepEqual([first?.scale, others], [0.5, []])
    assert.equal(sequence!.maxTokens, 5)
  })

  it('asks the store for its adapters with the strengths and the minimum that it came with', async () => {
    const world = createWorld()
    const required = [{ id: 'safety', minScale: null, namedIn: 'adapter', by: 'flags' }] as const
    const request = adapted({ required })
    await accept(world, request)
    const { selection } = await world.store.asked(1)
    assert.deepEqual(selection.adapters, request.adapters)
    assert.deepEqual(selection.required, required)
  })

  it('may generate what the context leaves when it does not say how much', async () => {
    const world = createWorld()
    const { sequences } = await accept(world, createRequest({ maxTokens: null }))
    assert.equal(sequences[0]!.maxTokens, maxContext - 2)
  })

  it('shares its prompt and its adapters between its choices, and gives them back once', async () => {
    const world = createWorld()
    const { sequences } = await accept(world, adapted({ n: 3 }))
    assert.deepEqual(
      sequences.map(({ index }) => index),
      [0, 1, 2],
    )
    for (const { promptTokens, segments } of sequences) {
      assert.equal(promptTokens, sequences[0]!.promptTokens)
      assert.deepEqual(segments, sequences[0]!.segments)
    }
    world.loop.finish('request')
    assert.deepEqual(kinds(world.ended()), ['accepted', 'done'])
    assert.deepEqual(world.store.numReleases, [1])
  })

  it('shares cached prompts only with the same adapters in the same strength', async () => {
    const world = createWorld()
    const keyOf = async (id: string, adapters: AdapterRef[]) => {
      const { sequences } = await accept(world, createRequest({ id, adapters }))
      return sequences[0]!.segments[0]!.key
    }
    const base = await keyOf('base', [])
    const half = await keyOf('half', [{ id: 'safety', scale: null }])
    const full = await keyOf('full', [{ id: 'safety', scale: 1 }])
    const other = await keyOf('other', [{ id: 'terse', scale: 1 }])
    assert.equal(new Set([base, half, full, other]).size, 4)
    assert.equal(await keyOf('again', [{ id: 'safety', scale: 0.5 }]), half)
  })

  it('renders messages with the template; text and tokens stay as they are', async () => {
    const world = createWorld()
    const tokensOf = async (prompt: GenerateRequest['prompt']) => {
      const { sequences } = await accept(world, createRequest({ id: prompt.kind, prompt }))
      return sequences[0]!.promptTokens
    }
    const chat = await tokensOf({ kind: 'messages', messages: [{ role: 'user', content: 'hi' }] })
    assert.equal(chat.at(-2), thoughtStart)
    assert.equal(tokenizer.decode(chat), `${markers[0]}<｜User｜>hi<｜Assistant｜><think>\n`)
    assert.deepEqual(await tokensOf({ kind: 'text', text: 'hi' }), bytesOf('hi'))
    assert.deepEqual(await tokensOf({ kind: 'tokens', tokens: [104, 7] }), [104, 7])
  })

  it('has the special tokens of a text unless it asks for none', async () => {
    const dir = createTempFolder()
    writeByteTokenizer(dir, { config: { add_bos_token: true } })
    const world = createWorld({
      texts: { run: async (work) => textTask.run({ dir, work }, () => {}) },
    })
    const lengths: number[] = []
    for (const more of [{}, { addSpecialTokens: true }, { addSpecialTokens: false }]) {
      const prompt = { kind: 'text', text: 'hi', ...more } as const
      const { sequences } = await accept(world, createRequest({ id: `${lengths.length}`, prompt }))
      lengths.push(sequences[0]!.promptTokens.length)
    }
    assert.deepEqual(lengths, [3, 3, 2])
  })

  it('echoes text as the client wrote it, and the text of tokens', async () => {
    const world = createWorld()
    const echoOf = async (prompt: GenerateRequest['prompt']) => {
      const request = createRequest({ id: prompt.kind, prompt, echo: true })
      const { sequences } = await accept(world, request)
      const [event] = sequences[0]!.finishPrompt()
      assert.ok(event?.kind === 'prompt')
      return event.text
    }
    assert.equal(await echoOf({ kind: 'text', text: 'a <think> b' }), 'a <think> b')
    assert.equal(await echoOf({ kind: 'tokens', tokens: bytesOf('yes') }), 'yes')
  })
})

describe('a request that is cancelled', () => {
  it('while its adapters load ends once, and gives back once what came too late', async () => {
    const world = createWorld()
    const submitted = world.submit(adapted({ n: 2 }))
    const { signal, resolve } = await world.store.asked(1)
    world.intake.cancel('request')
    world.intake.cancel('request')
    assert.equal(signal?.aborted, true)
    resolve()
    await submitted
    assert.deepEqual(kinds(world.ended()), ['cancelled'])
    assert.deepEqual(world.store.numReleases, [1])
    assert.equal(world.loop.taken.length, 0)
  })

  it('while the store waits for memory ends once; the store’s refusal is not told', async () => {
    for (const refusal of [
      new ServerError('adapter_limit', 'no room'),
      new Error('the wait was ended'),
    ]) {
      const world = createWorld()
      const submitted = world.submit(adapted())
      const { reject } = await world.store.asked(1)
      world.intake.cancel('request')
      reject(refusal)
      await submitted
      assert.deepEqual(kinds(world.ended()), ['cancelled'])
      assert.equal(world.loop.taken.length, 0)
    }
  })

  it('after it was accepted is the loop’s to end', async () => {
    const world = createWorld()
    await accept(world, adapted())
    world.intake.cancel('request')
    world.intake.cancel('request')
    assert.deepEqual(kinds(world.ended()), ['accepted', 'cancelled'])
    assert.deepEqual(world.store.numReleases, [1])
  })

  it('leaves others alone that are being prepared', async () => {
    const world = createWorld()
    const submitted = ['a', 'b'].map((id) => world.submit(adapted({ id })))
    const loads = [await world.store.asked(1), await world.store.asked(2)]
    world.intake.cancel('a')
    world.intake.cancel('nobody')
    for (const { resolve } of loads) resolve()
    await Promise.all(submitted)
    world.loop.finish('b')
    assert.deepEqual(kinds(world.ended('a')), ['cancelled'])
    assert.deepEqual(kinds(world.ended('b')), ['accepted', 'done'])
    assert.deepEqual(world.store.numReleases, [1, 1])
  })

  it('after it ended gets no second end', async () => {
    const world = createWorld()
    await accept(world, adapted())
    world.loop.finish('request')
    world.intake.cancel('request')
    assert.deepEqual(kinds(world.ended()), ['accepted', 'done'])
  })
})

describe('a request that cannot be run', () => {
  it('ends with what the store says of its adapters', async () => {
    const world = createWorld()
    const submitted = world.submit(adapted())
    const refusal = new ServerError('model_not_found', 'no such adapter', { param: 'adapter' })
    ;(await world.store.asked(1)).reject(refusal)
    await submitted
    assert.deepEqual(errorOf(world.ended()), refusal.toBody())
    assert.deepEqual(world.store.numReleases, [0])
  })

  it('for a bug ends without the bug’s words, which go to the log', async (t) => {
    const log = t.mock.method(console, 'error', () => {})
    const world = createWorld()
    const submitted = world.submit(adapted())
    const bug = new TypeError('/secret/path is undefined')
    ;(await world.store.asked(1)).reject(bug)
    await submitted
    const { code, message } = errorOf(world.ended())
    assert.equal(code, 'server_error')
    assert.doesNotMatch(message, /secret/)
    assert.deepEqual(log.mock.calls[0]?.arguments, [bug])
  })

  it('for a template that refuses its messages says so, and loads no adapter', async () => {
    const refusal = new ServerError('invalid_request', 'roles must alternate')
    const world = createWorld({
      texts: {
        run: () => Promise.reject(refusal),
      },
    })
    await world.submit(adapted({ prompt: { kind: 'messages', messages: [] } }))
    assert.deepEqual(errorOf(world.ended()), refusal.toBody())
    assert.equal(world.store.numAsked, 0)
  })

  it('for an empty prompt says so, and loads no adapter', async () => {
    const world = createWorld()
    await world.submit(adapted({ prompt: ofTokens(0) }))
    const { code, param } = errorOf(world.ended())
    assert.deepEqual([code, param], ['invalid_value', 'prompt'])
    assert.equal(world.store.numAsked, 0)
  })

  it('for a prompt beyond the context gives both numbers, and loads no adapter', async () => {
    const world = createWorld()
    const long = { prompt: ofTokens(maxContext), maxTokens: null }
    await world.submit(adapted({ id: 'full', ...long }))
    assert.match(errorOf(world.ended('full')).message, /is 32 tokens; the prompt has 32\. /)
    await world.submit(adapted({ id: 'more', ...long, prompt: ofTokens(20), maxTokens: 13 }))
    const { code, message } = errorOf(world.ended('more'))
    assert.equal(code, 'context_length_exceeded')
    assert.match(message, /is 32 tokens; the prompt has 20 and max_tokens is 13\. /)
    assert.equal(world.store.numAsked, 0)
  })

  it('names the field of the prompt that does not fit, or is empty', async () => {
    const world = createWorld()
    const long = 'x'.repeat(maxContext)
    const wrong = [
      {
        prompt: { kind: 'messages', messages: [{ role: 'user', content: long }] },
        param: 'messages',
      },
      { prompt: { kind: 'text', text: long }, param: 'prompt' },
      { prompt: ofTokens(maxContext), param: 'prompt' },
      { prompt: { kind: 'text', text: '' }, param: 'prompt' },
    ] as const
    for (const [i, { prompt, param }] of wrong.entries()) {
      await world.submit(adapted({ id: `${i}`, prompt, maxTokens: null }))
      assert.equal(errorOf(world.ended(`${i}`)).param, param)
    }
  })

  it('fits to the last position, and with no token to generate', async () => {
    const world = createWorld()
    const prompts = [
      createRequest({ id: 'exact', prompt: ofTokens(20), maxTokens: 12 }),
      createRequest({ id: 'one', prompt: ofTokens(maxContext - 1), maxTokens: null }),
      createRequest({ id: 'none', prompt: ofTokens(maxContext), maxTokens: 0 }),
    ]
    const limits: number[] = []
    for (const request of prompts) {
      limits.push((await accept(world, request)).sequences[0]!.maxTokens)
    }
    assert.deepEqual(limits, [12, 1, 0])
  })

  it('for a loop that does not take it ends once, and gives its adapters back', async (t) => {
    t.mock.method(console, 'error', () => {})
    const world = createWorld()
    world.loop.failWith(new Error('no'))
    const submitted = world.submit(adapted())
    ;(await world.store.asked(1)).resolve()
    await submitted
    const events = world.ended()
    assert.deepEqual(kinds(events), ['accepted', 'failed'])
    assert.deepEqual(world.store.numReleases, [1])
  })

  it('leaves nothing behind: cancelling it tells nothing more, and the next request runs', async () => {
    const world = createWorld()
    await world.submit(createRequest({ id: 'first', prompt: ofTokens(0) }))
    assert.equal(errorOf(world.ended('first')).code, 'invalid_value')
    world.intake.cancel('first')
    assert.equal(world.ended('first').length, 1)
    await accept(world, createRequest({ id: 'second' }))
    world.loop.finish('second')
    assert.deepEqual(kinds(world.ended('second')), ['accepted', 'done'])
  })
})

describe('a request whose prompt is being encoded', () => {
  /** Texts that are encoded when a test says so; `aborted` counts the signals that came. */
  function createSlowTexts() {
    const orders: { resolve(): void; reject(error: unknown): void }[] = []
    let numAborted = 0
    return {
      orders,
      get numAborted() {
        return numAborted
      },
      run(work: TextWork, _: unknown, signal?: AbortSignal): Promise<TextResult> {
        const { promise, resolve, reject } = createDeferred<TextResult>()
        signal?.addEventListener('abort', () => {
          numAborted++
          reject(signal.reason)
        })
        orders.push({ resolve: () => void texts.run(work).then(resolve, reject), reject })
        return promise
      },
    }
  }

  it('and is cancelled ends at once and once, and loads no adapter', async () => {
    const slow = createSlowTexts()
    const world = createWorld({ texts: slow })
    const submitted = world.submit(adapted())
    world.intake.cancel('request')
    await submitted
    assert.equal(slow.numAborted, 1)
    slow.orders[0]!.resolve()
    assert.deepEqual(kinds(world.ended()), ['cancelled'])
    assert.equal(world.store.numAsked, 0)
    assert.equal(world.loop.taken.length, 0)
  })

  it('and is cancelled just when the tokens come ends once', async () => {
    const slow = createSlowTexts()
    const world = createWorld({ texts: { run: (work) => slow.run(work, null) } })
    const submitted = world.submit(adapted())
    slow.orders[0]!.resolve()
    world.intake.cancel('request')
    await submitted
    assert.deepEqual(kinds(world.ended()), ['cancelled'])
    assert.equal(world.store.numAsked, 0)
  })

  it('does not hold up one whose prompt is ready', async () => {
    const slow = createSlowTexts()
    const world = createWorld({ texts: slow })
    const first = world.submit(createRequest({ id: 'slow' }))
    const second = world.submit(createRequest({ id: 'ready', prompt: ofTokens(2) }))
    ;(await world.store.asked(1)).resolve()
    await second
    assert.deepEqual(kinds(world.eventsOf('ready')), ['accepted'])
    assert.deepEqual(world.eventsOf('slow'), [])
    slow.orders[0]!.reject(new ServerError('invalid_request', 'it took too long'))
    await first
    assert.equal(errorOf(world.ended('slow')).message, 'it took too long')
  })
})

describe('the prompts of one call', () => {
  const prompt = (id: string) => adapted({ id, turn: { client: 'client', request: 'call' } })

  it('run with what the first one acquired, given back when the last one ends', async () => {
    const world = createWorld()
    const submitted = ['a', 'b', 'c'].map((id) => world.submit(prompt(id)))
    ;(await world.store.asked(1)).resolve()
    await Promise.all(submitted)
    assert.equal(world.store.numAsked, 1)
    const [first, ...others] = world.loop.taken.map(({ sequences }) =>
      sequences[0]!.componentsAt(0),
    )
    for (const other of others) assert.deepEqual(other, first)
    // One that comes while they run is of the same version, too.
    await world.submit(prompt('late'))
    for (const id of ['a', 'b', 'c']) world.loop.finish(id)
    assert.equal(world.store.numAsked, 1)
    assert.deepEqual(world.store.numReleases, [0])
    world.loop.finish('late')
    assert.deepEqual(world.store.numReleases, [1])
    // Another call acquires anew.
    await accept(world, adapted({ id: 'other' }))
    assert.equal(world.store.numAsked, 2)
  })

  it('fail together, and one that is cancelled leaves the others waiting', async () => {
    const world = createWorld()
    const [gone, ...others] = ['a', 'b', 'c'].map((id) => world.submit(prompt(id)))
    const asked = await world.store.asked(1)
    world.intake.cancel('a')
    await gone
    assert.deepEqual(kinds(world.ended('a')), ['cancelled'])
    assert.equal(asked.signal!.aborted, false)
    asked.reject(new ServerError('invalid_adapter', 'it is broken'))
    await Promise.all(others)
    for (const id of ['b', 'c']) assert.equal(errorOf(world.ended(id)).message, 'it is broken')
  })

  it('that are all cancelled wait no longer', async () => {
    const world = createWorld()
    const submitted = ['a', 'b'].map((id) => world.submit(prompt(id)))
    const asked = await world.store.asked(1)
    for (const id of ['a', 'b']) world.intake.cancel(id)
    await Promise.all(submitted)
    assert.equal(asked.signal!.aborted, true)
    // What comes too late is given back.
    asked.resolve()
    await new Promise(setImmediate)
    assert.deepEqual(world.store.numReleases, [1])
  })
})

describe('tokens of a text', () => {
  const asking: Turn = { client: 'one', request: 'text' }

  it('are those of the prompt, with the text of each where it is wanted', async () => {
    const { intake } = createWorld()
    const text = { kind: 'text', text: 'hi', addSpecialTokens: false } as const
    const ask = (input: TokenizeInput) => intake.tokenize({ input, turn: asking })
    const plain = await ask({ ...text, withTokenStrings: true })
    const tokens = JSON.stringify(bytesOf('hi'))
    assert.deepEqual(plain, { count: 2, tokens, tokenStrings: '["h","i"]' })
    const bare = await ask({ ...text, withTokenStrings: false })
    assert.equal(bare.tokenStrings, '[]')
    const messages = [{ role: 'user', content: 'hi' }] as const
    const chat = await ask({
      kind: 'messages',
      messages,
      addGenerationPrompt: false,
      withTokenStrings: true,
    })
    assert.equal(JSON.parse(chat.tokenStrings)[0], markers[0])
    assert.equal(await intake.detokenize({ input: bytesOf('hi'), turn: asking }), 'hi')
  })

  it("are made in the turn of the client that asks: another's slow texts do not count", async () => {
    const turns: Turn[] = []
    const { intake } = createWorld({
      texts: {
        async run(_work, turn) {
          turns.push(turn)
          throw new ServerError('invalid_request', 'it took too long')
        },
      },
    })
    const input = { kind: 'text', text: 'hi', addSpecialTokens: false } as const
    const other = { client: 'other', request: 'text' }
    await assert.rejects(
      intake.tokenize({ input: { ...input, withTokenStrings: false }, turn: other }),
    )
    await assert.rejects(intake.detokenize({ input: [1], turn: asking }))
    assert.deepEqual(turns, [other, asking])
  })
})
