// A model for engine tests: its tokens are bytes, its cache is a list of tokens per row, and what
// it says is a function of that cache. A row that is mixed up, moved wrongly or overwritten
// therefore says something else. It checks what the real runner takes for granted.

import assert from 'node:assert/strict'
import type { RankOne, ScaledRankOne } from '../../server/contracts/adapter.ts'
import type { AnswerGrammar } from '../../server/contracts/constraint.ts'
import {
  type GenerateRequest,
  type GenerationEvent,
  isTerminal,
  type SamplingParams,
} from '../../server/contracts/generation.ts'
import type { ReplyPhase } from '../../server/contracts/thought.ts'
import { createDeferred } from '../../server/engine-client/deferred.ts'
import { firstShape } from '../../server/loop/kv-shape.ts'
import { createLoop, type IdleTimer } from '../../server/loop/loop.ts'
import type { TokenText } from '../../server/loop/output.ts'
import type { SavedBlock } from '../../server/loop/prefix-cache.ts'
import type { AdapterSet, RequestAdapters } from '../../server/loop/segments.ts'
import { createSequence, type Sequence, type SequenceOptions } from '../../server/loop/sequence.ts'
import type { StepRunner } from '../../server/loop/step-runner.ts'
import type { LoadedGuard } from '../../server/safety/guard.ts'
import { within } from './deadline.ts'
import { createRandomNumbers } from './random-numbers.ts'

export const eos = 256
export const thoughtEnd = 257
export const thoughtStart = 259
export const vocabSize = 260

const specials = new Map([
  [eos, '<eos>'],
  [thoughtEnd, '</think>'],
  [258, '<pad>'],
  [thoughtStart, '<think>'],
])

/** Ids 0–255 are the bytes. */
export const byteTokenizer: TokenText = {
  tokenBytes: (id) => Buffer.from(specials.get(id) ?? Buffer.from([id])),
  isSpecial: (id) => specials.has(id),
  tokenText: (id) => Buffer.from(specials.get(id) ?? Buffer.from([id])).toString(),
  specialTexts: [...specials.values()],
  idOf: (text) => [...specials].find(([, special]) => special === text)?.[0],
}

export const bytesOf = (text: string): number[] => [...Buffer.from(text)]

type Components = readonly ScaledRankOne[]
/**
 * The model's answer to what a row's cache holds. `states`: of each position a number that tells its token
 * and its adapters; the token alone where there are none.
 */
export type Logits = (
  context: readonly number[],
  components: Components,
  states?: readonly number[],
) => Float32Array

/** All the weight on one token. */
export function certain(token: number): Float32Array {
  const logits = new Float32Array(vocabSize)
  logits[token] = 50
  return logits
}

/** Says the reply of the prompt that the context begins with, then the end token. */
export function replying(replies: Readonly<Record<string, readonly number[] | string>>): Logits {
  const scripts = Object.entries(replies).map(([prompt, reply]) => ({
    prompt: bytesOf(prompt),
    reply: typeof reply === 'string' ? bytesOf(reply) : reply,
  }))
  return (context) => {
    const script = scripts.find(({ prompt }) => prompt.every((byte, i) => context[i] === byte))
    assert.ok(script, `no reply is scripted for "${Buffer.from(context)}"`)
    return certain(script.reply[context.length - script.prompt.length] ?? eos)
  }
}

/** A component that is told from others by its number alone. */
export const numbered = (number: number): RankOne => {
  const vector = Float32Array.of(number)
  return [{ layer: 0, module: 'up_proj', a: vector, b: vector }]
}

/** 0 without any. */
function hashOf(components: Components): number {
  let hash = 0
  for (const { component, scale } of components) {
    const own = (component[0]?.a[0] ?? 0) * 101 + Math.round(scale * 64) + 1
    hash = (Math.imul(hash, 37) + own) | 0
  }
  return hash >>> 0
}

/** More than any token. */
const stateBase = 4096

/** What a position holds: its token and what acted on it. */
export function stateOf(token: number, components: Components): number {
  return token + stateBase * hashOf(components)
}

export const tokensOf = (states: readonly number[]) => states.map((state) => state % stateBase)

/** A number of all that the positions hold. */
export function seedOf(states: readonly number[]): number {
  let seed = 7
  for (const state of states) {
    seed =
      (Math.imul(seed, 31) + (state % stateBase) + Math.imul(Math.floor(state / stateBase), 77)) | 0
  }
  return seed
}

/** Logits that change with every token of the context and its adapters; never the end token. */
export const chaotic: Logits = (context, components, states = context) => {
  const random = createRandomNumbers(seedOf(states) ^ hashOf(components))
  const logits = Float32Array.from({ length: vocabSize }, () => 8 * random())
  logits.fill(-20, eos)
  return logits
}

/** Reads the row's tokens [0, past), before the guard's own, and their states. */
export type Judge = (context: readonly number[], states: readonly number[]) => number

interface ScriptedModelOptions {
  readonly rows: number
  readonly capacity: number
  readonly maxChunk: number
  readonly logits: Logits
  /** P(unsafe) of a row, with the test guard's labels; the logits' own answer unless said. */
  readonly score?: Judge
  /** w · h of the last token of a context; no probe unless said. */
  readonly probe?: Judge
  /** Positions of rows and saved blocks together; those of full rows unless said. */
  readonly kvPositions?: number
  /** Called before each run; may throw, or return a promise to wait for. */
  readonly beforeRun?: (run: { kind: 'prefill' | 'decode' | 'verdict'; rows: number }) => unknown
}

/** After the guard's token. */
function logitsOf(score: number): Float32Array {
  const logits = new Float32Array(vocabSize)
  logits[testGuard.labels.unsafe] = Math.log(score / (1 - score))
  return logits
}

interface SavedContext extends SavedBlock {
  readonly context: readonly number[]
}
export type ScriptedRunner = StepRunner<SavedContext>

function createScriptedModel({ beforeRun, ...options }: ScriptedModelOptions): ScriptedRunner {
  let shape = firstShape({
    maxRows: options.rows,
    maxCapacity: options.capacity,
    maxPositions: options.kvPositions ?? options.rows * options.capacity,
  })
  let cache: number[][] = Array.from({ length: shape.rows }, () => [])
  const output = new Float32Array(Math.max(options.rows, options.maxChunk) * vocabSize)
  let probed: Float32Array | null = null

  /** What the model says of one position after another, into `output`. */
  function tell(contexts: readonly number[][], components: readonly Components[]): Float32Array {
    probed = options.probe ? new Float32Array(contexts.length) : null
    for (const [i, states] of contexts.entries()) {
      const tokens = tokensOf(states)
      output.set(options.logits(tokens, components[i]!, states), i * vocabSize)
      if (probed !== null) probed[i] = options.probe!(tokens, states)
    }
    return output.subarray(0, contexts.length * vocabSize)
  }

  const append = (
    row: number,
    past: number,
    tokens: readonly number[],
    components: Components,
  ): number[] => {
    const context = cache[row]
    assert.ok(context, `row ${row} of ${shape.rows}`)
    assert.ok(context.length >= past, `row ${row} holds ${context.length} positions, not ${past}`)
    assert.ok(past + tokens.length <= shape.capacity, `row ${row} beyond its capacity`)
    const states = tokens.map((token) => stateOf(token, components))
    context.splice(past, Number.POSITIVE_INFINITY, ...states)
    return context
  }

  return {
    async prefill({ row, tokens, past, components, numLogits }) {
      assert.ok(tokens.length > 0 && tokens.length <= options.maxChunk, `${tokens.length} tokens`)
      await beforeRun?.({ kind: 'prefill', rows: 1 })
      const context = append(row, past, tokens, components)
      const contexts = Array.from({ length: numLogits }, (_, i) => {
        return context.slice(0, context.length - numLogits + i + 1)
      })
      return tell(
        contexts,
        contexts.map(() => components),
      )
    },
    async decode(batch) {
      assert.ok(batch.length > 0 && batch.length <= shape.rows)
      await beforeRun?.({ kind: 'decode', rows: batch.length })
      const contexts = batch.map(({ token, past, components }, row) => {
        return append(row, past, [token], components)
      })
      return tell(
        contexts,
        batch.map(({ components }) => components),
      )
    },
    async verdict(batch, components) {
      assert.ok(batch.length > 0 && batch.length <= shape.rows)
      await beforeRun?.({ kind: 'verdict', rows: batch.length })
      for (const [row, { token, past }] of batch.entries()) {
        const context = cache[row]
        assert.ok(context && context.length >= past && past < shape.capacity, `position ${past}`)
        const before = context.slice(0, past)
        context[past] = stateOf(token, components)
        const logits = options.score
          ? logitsOf(options.score(tokensOf(before), before))
          : options.logits([...tokensOf(before), token], components)
        output.set(logits, row * vocabSize)
      }
      return output.subarray(0, batch.length * vocabSize)
    },
    get probe() {
      return probed
    },
    reshape(next, lengths) {
      assert.ok(next.rows * next.capacity <= (options.kvPositions ?? Number.POSITIVE_INFINITY))
      for (const length of lengths) assert.ok(length <= next.capacity, `${length} positions`)
      assert.ok(lengths.length <= next.rows, `${lengths.length} rows`)
      shape = next
      cache = Array.from({ length: next.rows }, (_, row) => {
        return (cache[row] ?? []).slice(0, lengths[row] ?? 0)
      })
    },
    copyRow(from, to, start, count) {
      const copied = (cache[from] ?? []).slice(start, start + count)
      assert.equal(copied.length, count, `row ${from} holds less than ${start + count} positions`)
      cache[to]?.splice(start, Number.POSITIVE_INFINITY, ...copied)
    },
    blockMax: null,
    numBlocks: 0,
    positionBytes: 1,
    savePositions(row, start, count) {
      const context = (cache[row] ?? []).slice(start, start + count)
      assert.equal(context.length, count)
      return { context, bytes: count, release() {} }
    },
    restorePositions(saved, row, start) {
      cache[row]?.splice(start, saved.context.length, ...saved.context)
    },
  }
}

/** Greedy, 16 tokens, no stop: overrides say what a test is about. */
export function createRequest({
  sampling = {},
  ...fields
}: Omit<Partial<GenerateRequest>, 'sampling'> & {
  readonly sampling?: Partial<SamplingParams>
} = {}): GenerateRequest {
  return {
    id: 'request',
    turn: { client: 'client', request: fields.id ?? 'request' },
    prompt: { kind: 'text', text: 'hi' },
    adapters: [],
    n: 1,
    maxTokens: 16,
    echo: false,
    promptLogprobs: null,
    topLogprobs: null,
    truncatePrompt: null,
    logprobTokens: [],
    returnTokenIds: false,
    splitReasoning: false,
    constraint: null,
    safety: null,
    required: [],
    ...fields,
    sampling: {
      temperature: 0,
      topP: 1,
      topK: 0,
      minP: 0,
      presencePenalty: 0,
      frequencyPenalty: 0,
      repetitionPenalty: 1,
      logitBias: [],
      minTokens: 0,
      ignoreEos: false,
      stop: [],
      stopTokenIds: [],
      includeStopInOutput: false,
      badWords: [],
      allowedTokens: null,
      skipSpecialTokens: true,
      seed: 0n,
      ...sampling,
    },
  }
}

export function promptTokensOf({ prompt }: GenerateRequest): readonly number[] {
  if (prompt.kind === 'tokens') return prompt.tokens
  return prompt.kind === 'text' ? bytesOf(prompt.text) : [0]
}

/** Adapters that act everywhere. */
export function adaptersOf(components: Components): RequestAdapters {
  const set = setOf(components)
  return { applied: set.applied, thought: set, answer: set, escalated: null }
}

/** Told apart by their numbers. */
export function setOf(components: Components): AdapterSet {
  const applied = components.map(({ component, scale }) => {
    const name = `${component[0]?.a[0]}`
    return { id: name, digest: name, scale }
  })
  return { applied, components, key: `${hashOf(components)}` }
}

/** Flags from 0.5 on; certified on the base. */
export const testGuard: LoadedGuard = {
  info: { kind: 'adapter', id: 'judge', digest: 'f'.repeat(64), hasProbe: false, threshold: 0.5 },
  token: 258,
  labels: { safe: 0, unsafe: 1 },
  components: [{ component: numbered(99), scale: 1 }],
  calibrationOf: ({ length }) => ({ temperature: 1, threshold: 0.5, certified: length === 0 }),
  probe: null,
  isExact: false,
}

export function createTestSequence(
  request: GenerateRequest,
  overrides: Partial<SequenceOptions> = {},
): Sequence {
  return createSequence({
    request,
    index: 0,
    promptTokens: promptTokensOf(request),
    promptText: request.prompt.kind === 'text' ? request.prompt.text : '',
    adapters: adaptersOf([]),
    guard: null,
    maxPositions: Number.POSITIVE_INFINITY,
    tokenizer: byteTokenizer,
    eosTokenIds: [eos],
    phase: 'answering',
    maxTokens: request.maxTokens ?? 16,
    ...overrides,
  })
}

export interface TestLoopOptions extends Partial<ScriptedModelOptions> {
  readonly guard?: LoadedGuard | null
  /** Changes the runner under the loop. */
  readonly wrap?: (runner: ScriptedRunner) => ScriptedRunner
  /** Positions beyond those of full rows, for beginnings of earlier prompts; none by default. */
  readonly prefixPositions?: number
  /** Gives memory back at once by default. */
  readonly idle?: IdleTimer
}

export interface SubmitOptions {
  readonly components?: Components
  /** Instead of components. */
  readonly adapters?: RequestAdapters
  readonly phase?: ReplyPhase
  readonly grammar?: AnswerGrammar
}

/** The real loop over a scripted model. */
export function createTestLoop({ wrap = (runner) => runner, ...given }: TestLoopOptions = {}) {
  const basic = { rows: 4, capacity: 64, maxChunk: 4, logits: chaotic, ...given }
  const rowPositions = basic.rows * basic.capacity
  const options = { kvPositions: rowPositions + (given.prefixPositions ?? 0), ...basic }
  const told = new Map<string, GenerationEvent[]>()
  const ends = new Map<string, ReturnType<typeof createDeferred<void>>>()
  const releases = new Map<string, number>()
  let clock = 0
  const { guard = null } = given
  const loop = createLoop({
    runner: wrap(createScriptedModel(options)),
    guard,
    limits: {
      maxRows: options.rows,
      maxCapacity: options.capacity,
      maxPositions: options.kvPositions,
    },
    targetGapMs: 250,
    vocabSize,
    maxChunk: options.maxChunk,
    publish: (events) => {
      for (const [id, event] of events) {
        told.get(id)?.push(event)
        if (isTerminal(event)) ends.get(id)?.resolve()
      }
    },
    now: () => ++clock,
    idle: given.idle ?? { start: (task) => task(), stop: () => {} },
  })
  return {
    loop,
    submit(
      request: GenerateRequest,
      { components = [], adapters = adaptersOf(components), phase, grammar }: SubmitOptions = {},
    ) {
      const { id } = request
      told.set(id, [])
      ends.set(id, createDeferred())
      releases.set(id, 0)
      const sequences = Array.from({ length: request.n }, (_, index) =>
        createTestSequence(request, {
          index,
          adapters,
          guard,
          maxPositions: options.capacity,
          phase: phase ?? 'answering',
          grammar: grammar ?? null,
        }),
      )
      loop.submit({
        id,
        sequences,
        adapterIds: [],
        release: () => releases.set(id, (releases.get(id) ?? 0) + 1),
      })
    },
    /** All events of a request, once it has ended and the loop is idle or at its next step. */
    async ended(id: string): Promise<GenerationEvent[]> {
      await within(10_000, `end of ${id}`, ends.get(id)?.promise ?? Promise.reject(id))
      return told.get(id) ?? []
    },
    events: (id: string): readonly GenerationEvent[] => told.get(id) ?? [],
    numReleases: (id: string): number => releases.get(id) ?? 0,
  }
}

/** One choice's text of one section. */
export function textOf(
  events: readonly GenerationEvent[],
  { index = 0, section = 'content' }: { index?: number; section?: 'content' | 'reasoning' } = {},
): string {
  return events
    .map((event) =>
      event.kind === 'delta' && event.index === index && event.section === section
        ? event.text
        : '',
    )
    .join('')
}
