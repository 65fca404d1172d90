// An opened engine: the model, its tokenizer, its adapters and the loop, as one object. The process
// entry serves it over IPC; tests may hold it directly.

import { createAdapterReader } from '../adapters/reader.ts'
import { joinSites, sitesOfFolder } from '../adapters/sites.ts'
import { createAdapterStore } from '../adapters/store.ts'
import { openCheckpoint } from '../checkpoint/checkpoint.ts'
import type { AdapterSummary } from '../contracts/adapter.ts'
import type {
  EngineOptions,
  EngineStats,
  ModelInfo,
  TokenizeInput,
  TokenizeResult,
} from '../contracts/engine.ts'
import type { GenerateRequest, GenerationEvent, Prompt } from '../contracts/generation.ts'
import { convertCheckpoint, probeOf } from '../conversion/convert.ts'
import { ServerError } from '../errors.ts'
import { createIdleTimer } from '../loop/idle-timer.ts'
import { firstShape } from '../loop/kv-shape.ts'
import { createLoop } from '../loop/loop.ts'
import { createSequence } from '../loop/sequence.ts'
import { createRunner } from '../model/runner.ts'
import { testDevice } from '../model/self-test.ts'
import { openDevice } from '../runtime/device.ts'
import { ownKernels } from '../runtime/own-kernels.ts'
import { loadChatTemplate } from '../tokenizer/chat-template.ts'
import { loadTokenizer } from '../tokenizer/tokenizer.ts'
import { readFreeMemory } from './free-memory.ts'
import { guardRunner } from './guarded-runner.ts'
import { planMemory } from './memory.ts'
import { createStartup } from './startup.ts'
import { createStatsPace } from './stats-pace.ts'
import { dtypeNames, formatOf, resolveKernels, resolveWeights, targetOf } from './weights.ts'

const maxChunk = 512
/** Longest pause of a running stream while a prompt comes in. */
const targetGapMs = 250
/** Without requests before the KV cache gives memory back: longer than people think between two turns. */
const idleMs = 120_000

export interface EngineEvents {
  readonly publish: (events: ReadonlyArray<readonly [string, GenerationEvent]>) => void
  readonly onStats: (stats: EngineStats) => void
  readonly onProgress: (what: string, done: number, total: number) => void
  /** Something that an operator should know and that stops nothing. */
  readonly onNotice: (message: string) => void
  /** A GPU failed while it ran; nothing can be computed any more. */
  readonly onDeviceFailure: (error: unknown) => void
}

export type OpenEngine = Awaited<ReturnType<typeof openEngine>>

/** Loads everything; blocks for most of it. Rejects with ServerError on a checkpoint that cannot be served. */
export async function openEngine(options: EngineOptions, events: EngineEvents) {
  const startup = createStartup({
    now: () => performance.now(),
    peakRssBytes: () => process.resourceUsage().maxRSS * 1024,
  })
  const checkpoint = openCheckpoint(options.model)
  const { config, generation } = checkpoint
  const tokenizer = loadTokenizer(options.model)
  const chatTemplate = loadChatTemplate(options.model, tokenizer)
  const device = openDevice(options.device, options.onnxruntime)
  const weights = resolveWeights(options.weights, checkpoint.numParameters, device)
  const format = formatOf(weights, options)
  const kernels = resolveKernels(options.kernels, device, ownKernels() !== null)
  const target = targetOf(weights, device, kernels, options.kvCacheDtype)
  const sites = joinSites(
    options.adapterModules,
    options.scansAdapters ? sitesOfFolder(options.adapters) : [],
  )
  const { numParameters } = checkpoint
  const freeBytes = readFreeMemory()
  const plan = { config, options, format, target, sites, numParameters, freeBytes, maxChunk }
  const memory = planMemory(plan)
  const { graphPath, baseDigest } = await convertCheckpoint({
    dir: options.model,
    checkpoint,
    // The whole range, whatever memory allows today: the result is then found again tomorrow.
    maxContext: config.maxPosition,
    format,
    target,
    sites,
    cacheDir: options.cacheDir,
    onProgress: events.onProgress,
    onNotice: events.onNotice,
  })
  checkpoint.close()
  startup.markConverted()
  const threads = options.threads ?? 0
  if (device.accelerator !== null) {
    events.onProgress('testing the device', 0, 1)
    await testDevice({ device, ...probeOf(graphPath, config), format, target, sites, threads })
    events.onProgress('testing the device', 1, 1)
  }
  const plainRunner = createRunner({
    graphPath,
    config,
    threads,
    rows: options.maxBatch,
    shape: firstShape(memory.limits),
    sites,
    maxChunk,
    target,
    accelerator: device.accelerator,
  })
  // A device that fails by now is told of as anything else that stops a start.
  const started = await startup.warmUp(plainRunner)
  const runner =
    device.accelerator === null ? plainRunner : guardRunner(plainRunner, events.onDeviceFailure)
  const reader = createAdapterReader()
  const store = createAdapterStore({
    root: options.adapters,
    modelConfig: config,
    sites: new Set(sites),
    baseDigest: options.acceptsOtherBases ? null : baseDigest,
    onNotice: events.onNotice,
    maxBytes: memory.bytes.adapters,
    maxRankPerRow: options.maxAdapterRank,
    reserved: [options.servedModelName],
    read: reader.read,
  })
  const loop = createLoop({
    runner,
    limits: memory.limits,
    targetGapMs,
    vocabSize: config.vocabSize,
    maxChunk,
    publish: (batch) => {
      events.publish(batch)
      reportStats()
    },
    now: () => performance.now(),
    idle: createIdleTimer(idleMs),
  })
  /** Requests being prepared (adapters loading) that were cancelled meanwhile. */
  const preparing = new Map<string, AbortController>()

  const tellStats = createStatsPace(events.onStats, () => performance.now())
  function reportStats(): void {
    tellStats(loop.stats(store.residentIds().length))
  }

  function encodePrompt(prompt: Prompt): { tokens: readonly number[]; startsInReasoning: boolean } {
    switch (prompt.kind) {
      case 'messages':
        return chatTemplate.encode(prompt.messages, { addGenerationPrompt: true })
      case 'text':
        return {
          tokens: tokenizer.encodePrompt(prompt.text, { addSpecialTokens: true }),
          startsInReasoning: false,
        }
      case 'tokens':
        return { tokens: prompt.tokens, startsInReasoning: false }
    }
  }

  /** A prompt as the client gave it, where it gave text. */
  const textOf = (prompt: Prompt, tokens: readonly number[]): string =>
    prompt.kind === 'text' ? prompt.text : tokenizer.decode(tokens)

  async function prepare(request: GenerateRequest, signal: AbortSignal) {
    const { tokens, startsInReasoning } = encodePrompt(request.prompt)
    const maxTokens = boundTokens(tokens.length, request.maxTokens, memory.limits.maxCapacity)
    const held = await store.acquire(request, signal)
    if (signal.aborted) {
      held.release()
      events.publish([[request.id, { kind: 'cancelled' }]])
      return
    }
    const cacheKey = held.applied.map(({ digest, scale }) => `${digest}:${scale}`).join(' ')
    const sequences = Array.from({ length: request.n }, (_, index) =>
      createSequence({
        request,
        index,
        promptTokens: tokens,
        promptText: request.echo ? textOf(request.prompt, tokens) : '',
        components: held.components,
        cacheKey,
        tokenizer,
        eosTokenIds: generation.eosTokenIds,
        startsInReasoning,
        maxTokens,
      }),
    )
    events.publish([
      [
        request.id,
        {
          kind: 'accepted',
          promptTokens: tokens.length,
          adapters: held.applied,
        },
      ],
    ])
    loop.submit({
      id: request.id,
      sequences,
      adapterIds: held.applied.map(({ id }) => id),
      release: held.release,
    })
    reportStats()
  }

  const model: ModelInfo = {
    id: options.servedModelName,
    architecture: config.architecture,
    vocabSize: config.vocabSize,
    maxContext: memory.limits.maxCapacity,
    modelContext: config.maxPosition,
    numParameters: checkpoint.numParameters,
    weights,
    device: device.name,
    kernels,
    kvCacheDtype: dtypeNames[target.cacheFloats],
    maxBatch: options.maxBatch,
    adapterModules: sites,
    kvCapacityTokens: memory.limits.maxPositions,
    defaults: {
      temperature: generation.temperature,
      topP: generation.topP,
      topK: generation.topK,
    },
    startup: started,
    created: checkpoint.created,
    bytes: memory.bytes,
  }

  return {
    model,

    /** Ends in exactly one terminal event, also when the request cannot be run at all. */
    async submit(request: GenerateRequest): Promise<void> {
      const controller = new AbortController()
      preparing.set(request.id, controller)
      try {
        await prepare(request, controller.signal)
      } catch (error) {
        if (controller.signal.aborted) {
          events.publish([[request.id, { kind: 'cancelled' }]])
          return
        }
        if (!(error instanceof ServerError)) console.error(error)
        const failure =
          error instanceof ServerError
            ? error
            : new ServerError('server_error', 'The request could not be prepared.')
        events.publish([[request.id, { kind: 'failed', error: failure.toBody() }]])
      } finally {
        preparing.delete(request.id)
      }
    },

    cancel(id: string): void {
      preparing.get(id)?.abort()
      loop.cancel(id)
    },

    tokenize(input: TokenizeInput): TokenizeResult {
      const tokens =
        input.kind === 'text'
          ? tokenizer.encodePrompt(input.text, { addSpecialTokens: input.addSpecialTokens })
          : chatTemplate.encode(input.messages, input).tokens
      return { tokens, tokenStrings: tokens.map((id) => tokenizer.tokenText(id)) }
    },

    detokenize(tokens: readonly number[]): string {
      return tokenizer.decode(tokens)
    },

    listAdapters(_: null): Promise<readonly AdapterSummary[]> {
      return store.list()
    },

    get stepMs(): number | null {
      return loop.stepMs
    },

    close(): void {
      runner.release()
      void reader.close()
    },
  }
}

function boundTokens(promptTokens: number, asked: number | null, maxContext: number): number {
  const left = maxContext - promptTokens
  const wanted = asked ?? 1
  if (promptTokens === 0) {
    throw new ServerError('invalid_value', 'The prompt is empty: give at least one token.', {
      param: 'prompt',
    })
  }
  if (left < wanted) {
    throw new ServerError(
      'context_length_exceeded',
      `This model's maximum context length is ${maxContext} tokens; the prompt has ` +
        `${promptTokens}${asked === null ? '' : ` and max_tokens is ${asked}`}. ` +
        'Shorten the prompt or ask for fewer tokens.',
      { param: 'messages' },
    )
  }
  return asked ?? left
}
