// A scripted engine: each request is answered by an async generator of events. It keeps the contract
// honestly: `cancel` ends the stream in `cancelled`, unless it had ended, and is recorded; strengths
// are decided as a real engine does, and a script sees the outcome.

import { decideStrengths } from '../../server/adapters/strength.ts'
import type { AdapterChange, AdapterSummary } from '../../server/contracts/adapter.ts'
import {
  type EngineClient,
  type EngineState,
  type MergeChange,
  type MergeStatus,
  type ModelInfo,
  noMerge,
  ownCapabilities,
} from '../../server/contracts/engine.ts'
import {
  type GenerateRequest,
  type GenerationEvent,
  isTerminal,
} from '../../server/contracts/generation.ts'
import type { GuardInfo, JudgedPart, Verdict } from '../../server/contracts/safety.ts'
import type { SingleEngine } from '../../server/engine-client/client.ts'
import { type ErrorBody, ServerError } from '../../server/errors.ts'

export type Script = (
  request: GenerateRequest,
  signal: AbortSignal,
) => AsyncIterable<GenerationEvent>

export const fakeModel: ModelInfo = {
  id: 'tiny',
  architecture: 'Qwen2ForCausalLM',
  vocabSize: 1000,
  maxContext: 512,
  modelContext: 512,
  numParameters: 1_000_000,
  weights: 'fp32',
  device: 'cpu',
  kernels: null,
  kvCacheDtype: 'fp32',
  maxBatch: 8,
  kvCapacityTokens: 8192,
  toolFormat: null,
  tokenizer: { namedTokens: { eos_token: '<end>' }, chatTemplate: '{{ messages }}' },
  guard: null,
  capabilities: ownCapabilities,
  defaults: {
    temperature: 0.6,
    topP: 0.95,
    topK: 0,
    minP: 0,
    presencePenalty: 0,
    frequencyPenalty: 0,
    repetitionPenalty: 1,
  },
  startup: {
    scanSeconds: 0,
    convertSeconds: 1,
    loadSeconds: 1,
    firstTokenSeconds: 0.1,
    peakRssBytes: 5_000_000,
  },
  created: 1_700_000_000,
  adapterModules: ['up_proj'],
  merged: [],
  bytes: {
    weights: 4_000_000,
    workspace: 100_000,
    adapters: 1000,
    adapterRows: 2_000_000,
    kv: 1_000_000,
  },
}

const adapter = (id: string, more: Partial<AdapterSummary> = {}): AdapterSummary => ({
  id,
  kind: 'adapter',
  state: 'available',
  digest: null,
  rank: 1,
  targetModules: ['up_proj'],
  bytes: null,
  runningRequests: 0,
  pinned: false,
  numLayers: 8,
  defaultScale: 1,
  description: null,
  base: null,
  manifest: null,
  warnings: [],
  error: null,
  ...more,
})

export const digestOf = (id: string): string =>
  Buffer.from(id.padEnd(32, '.')).toString('hex').slice(0, 64)

export const accepted = (request: GenerateRequest): GenerationEvent => ({
  kind: 'accepted',
  promptTokens: 7,
  adapters: request.adapters.map(({ id, scale, span }) => ({
    id,
    digest: digestOf(id),
    scale: scale ?? 1,
    ...(span === undefined ? {} : { span }),
  })),
  guard: request.safety === null ? null : { ...fakeGuard, certified: true },
})

/** Who judges in a fake engine that has a guard. */
export const fakeGuard: GuardInfo = {
  kind: 'adapter',
  id: 'watch',
  digest: digestOf('watch'),
  hasProbe: true,
  threshold: 0.5,
}

export const guardedModel: ModelInfo = { ...fakeModel, guard: fakeGuard }

export const verdict = (
  index: number,
  part: JudgedPart,
  score: number | null,
  more: Partial<Verdict> = {},
): GenerationEvent => ({
  kind: 'verdict',
  index,
  part,
  scoredTokens: part === 'input' ? 0 : 2,
  score,
  flagged: (score ?? 0) >= fakeGuard.threshold!,
  threshold: fakeGuard.threshold,
  certified: true,
  probe: null,
  skipped: score === null ? 'failed' : null,
  ...more,
})

export const delta = (
  index: number,
  section: 'reasoning' | 'content',
  text: string,
  topLogprobs: number | null = null,
): GenerationEvent => {
  const bytes = [...Buffer.from(text)]
  const one = { id: 5, token: text, bytes, logprob: -0.25 }
  const other = { id: 6, token: '?', bytes: [63], logprob: -1.5 }
  const logprobs =
    topLogprobs === null ? null : [{ ...one, top: [one, other].slice(0, topLogprobs) }]
  return { kind: 'delta', index, section, text, numTokens: 1, logprobs }
}

export const finished = (
  index: number,
  more: Partial<Extract<GenerationEvent, { kind: 'choice_finished' }>> = {},
): GenerationEvent => ({
  kind: 'choice_finished',
  index,
  reason: 'stop',
  stopReason: null,
  usage: { completionTokens: 4, reasoningTokens: 2 },
  ...more,
})

export const done: GenerationEvent = {
  kind: 'done',
  timing: { queueMs: 1, prefillMs: 2, decodeMs: 3 },
  cachedTokens: 2,
}

export const failed = (code: ErrorBody['code'], message: string): GenerationEvent => ({
  kind: 'failed',
  error: { code, message },
})

/** A short thought and a short answer for each choice. */
export const answer: Script = async function* (request) {
  yield accepted(request)
  for (let index = 0; index < request.n; index++) {
    if (request.safety !== null) yield verdict(index, 'input', 0.1)
    if (request.safety !== null && request.maxTokens === 0) {
      yield finished(index, {
        reason: 'length',
        usage: { completionTokens: 0, reasoningTokens: 0 },
      })
      continue
    }
    if (request.splitReasoning) {
      yield delta(index, 'reasoning', 'Let me', request.topLogprobs)
      yield delta(index, 'reasoning', ' think.', request.topLogprobs)
    }
    yield delta(index, 'content', 'Hello', request.topLogprobs)
    yield delta(index, 'content', ' there 🙂', request.topLogprobs)
    if (request.safety !== null) yield verdict(index, 'output', 0.2, { scoredTokens: 4 })
    yield finished(index)
  }
  yield done
}

/** Resolves when the generation is cancelled. */
const untilAborted = (signal: AbortSignal): Promise<void> =>
  signal.aborted
    ? Promise.resolve()
    : new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))

/** Accepted (if told so), one token of a thought, then silence until it is cancelled. */
export const hang = (options: { accept: boolean }): Script =>
  async function* (request, signal) {
    if (options.accept) {
      yield accepted(request)
      yield delta(0, 'reasoning', 'Hmm')
    }
    await untilAborted(signal)
  }

/** The request with every strength concrete, from the default strengths of the list. */
function withStrengths(
  request: GenerateRequest,
  summaries: readonly AdapterSummary[],
): GenerateRequest {
  const defaultOf = (id: string) => summaries.find((one) => one.id === id)?.defaultScale ?? 1
  const strengths = decideStrengths(
    request,
    request.adapters.map(({ id }) => defaultOf(id)),
  )
  return {
    ...request,
    adapters: request.adapters.map((ref, i) => ({ ...ref, scale: strengths[i]! })),
  }
}

export interface FakeEngine extends EngineClient, Pick<SingleEngine, 'prepareMerge'> {
  mergeStatus: MergeStatus
  state: EngineState
  outage: ErrorBody | null
  model: ModelInfo | undefined
  script: Script
  adapters: readonly AdapterSummary[]
  readonly requests: readonly GenerateRequest[]
  readonly changes: readonly AdapterChange[]
  readonly merges: readonly MergeChange[]
  /** Ids of generations that were cancelled before they had ended. */
  readonly cancelled: readonly string[]
  readonly numRunning: number
  readonly isClosed: boolean
}

export const createFakeEngine = (options: { script?: Script } = {}): FakeEngine => {
  const requests: GenerateRequest[] = []
  const changes: AdapterChange[] = []
  const merges: MergeChange[] = []
  const cancelled: string[] = []
  let numRunning = 0
  let isClosed = false

  async function* run(
    request: GenerateRequest,
    script: Script,
    signal: AbortSignal,
    summaries: readonly AdapterSummary[],
  ): AsyncGenerator<GenerationEvent> {
    numRunning += 1
    try {
      for await (const event of script(withStrengths(request, summaries), signal)) {
        if (signal.aborted) break
        yield event
        if (isTerminal(event)) return
      }
      yield { kind: 'cancelled' }
    } catch (error) {
      if (!(error instanceof ServerError)) throw error
      yield { kind: 'failed', error: error.toBody() }
    } finally {
      numRunning -= 1
    }
  }

  return {
    state: 'ready',
    model: fakeModel,
    restarts: 0,
    script: options.script ?? answer,
    adapters: [
      adapter('safety-r1'),
      adapter('terse', { defaultScale: 0.5 }),
      adapter('broken', {
        state: 'invalid',
        error: { code: 'invalid_adapter', message: 'adapter_config.json is missing' },
      }),
    ],
    requests,
    changes,
    cancelled,
    get numRunning() {
      return numRunning
    },
    get isClosed() {
      return isClosed
    },
    submit(request) {
      requests.push(request)
      const controller = new AbortController()
      let hasEnded = false
      const events = (async function* (script: Script, summaries: readonly AdapterSummary[]) {
        for await (const event of run(request, script, controller.signal, summaries)) {
          if (isTerminal(event)) hasEnded = true
          yield event
        }
      })(this.script, this.adapters)
      return {
        id: request.id,
        events,
        cancel() {
          if (hasEnded || controller.signal.aborted) return
          cancelled.push(request.id)
          controller.abort()
        },
      }
    },
    async tokenize(input) {
      const text =
        input.kind === 'text' ? input.text : input.messages.map(({ content }) => content).join('\n')
      const bytes = [...Buffer.from(text)]
      const strings = bytes.map((byte) => String.fromCharCode(byte))
      return {
        count: bytes.length,
        tokens: JSON.stringify(bytes),
        tokenStrings: JSON.stringify(strings),
      }
    },
    async detokenize(tokens) {
      return Buffer.from(tokens).toString()
    },
    async listAdapters({ ids, after = '', limit = Number.POSITIVE_INFINITY } = {}) {
      return this.adapters
        .filter(({ id }) => (ids === undefined ? id > after : ids.includes(id)))
        .slice(0, limit)
    },
    async changeAdapter(change) {
      changes.push(change)
      return { outcome: 'added', adapter: adapter(change.id), runningRequests: 0 }
    },
    async changeMerge(change) {
      merges.push(change)
      return { outcome: 'unchanged', merged: [], difference: null, seconds: 0 }
    },
    mergeStatus: noMerge,
    outage: null,
    async prepareMerge({ id, scale }) {
      return { merged: { id, digest: digestOf(id), scale: scale ?? 1 }, modules: ['up_proj'] }
    },
    merges,
    async ready() {
      if (this.model !== undefined) return this.model
      throw new ServerError('invalid_checkpoint', 'there is no model')
    },
    async close() {
      isClosed = true
      this.state = 'stopped'
    },
  }
}
