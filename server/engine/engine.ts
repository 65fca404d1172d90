// An opened engine: the model, its tokenizer, its adapters and the loop, as one object. The process
// entry serves it over IPC; tests may hold it directly.

import { neededSites } from '../adapters/sites.ts'
import { createAdapterStore } from '../adapters/store.ts'
import type { AdapterSummary } from '../contracts/adapter.ts'
import type {
  EngineOptions,
  EngineStats,
  ModelInfo,
  TokenizeInput,
  TokenizeResult,
} from '../contracts/engine.ts'
import type { GenerateRequest, GenerationEvent, Prompt } from '../contracts/generation.ts'
import { ServerError } from '../errors.ts'
import { loadChatTemplate } from '../model/chat-template.ts'
import { openCheckpoint } from '../model/checkpoint.ts'
import { convertCheckpoint, probeOf } from '../model/convert.ts'
import { openDevice } from '../model/device.ts'
import { createRunner, type SavedCacheRow } from '../model/runner.ts'
import { testDevice } from '../model/self-test.ts'
import { loadTokenizer } from '../model/tokenizer.ts'
import { guardRunner } from './guarded-runner.ts'
import { createLoop } from './loop.ts'
import { planMemory } from './memory.ts'
import { createPrefixCache } from './prefix-cache.ts'
import { createSequence } from './sequence.ts'
import { floatsOf, formatOf, resolveWeights } from './weights.ts'

const maxChunk = 512

export interface EngineEvents {
  readonly publish: (events: ReadonlyArray<readonly [string, GenerationEvent]>) => void
  readonly onStats: (stats: EngineStats) => void
  readonly onProgress: (what: string, done: number, total: number) => void
  /** A GPU failed while it ran; nothing can be computed any more. */
  readonly onDeviceFailure: (error: unknown) => void
}

export type OpenEngine = Awaited<ReturnType<typeof openEngine>>

/** Loads everything; blocks for most of it. Rejects with ServerError on a checkpoint that cannot be served. */
export async function openEngine(options: EngineOptions, events: EngineEvents) {
  const checkpoint = openCheckpoint(options.model)
  const { config, generation } = checkpoint
  const tokenizer = loadTokenizer(options.model)
  const chatTemplate = loadChatTemplate(options.model, tokenizer)
  const device = openDevice(options.device, options.onnxruntime)
  const weights = resolveWeights(options.weights, checkpoint.numParameters, device)
  const format = formatOf(weights)
  const floats = floatsOf(weights, device)
  const sites = neededSites(options.adapters)
  const { numParameters } = checkpoint
  const memory = planMemory({ config, options, format, floats, sites, numParameters })
  const graphPath = await convertCheckpoint({
    dir: options.model,
    checkpoint,
    maxContext: memory.capacity,
    format,
    floats,
    sites,
    cacheDir: options.cacheDir,
    onProgress: (done, total) => events.onProgress('converting weights', done, total),
  })
  checkpoint.close()
  const threads = options.threads ?? 0
  if (device.accelerator !== null) {
    events.onProgress('testing the device', 0, 1)
    await testDevice({ device, ...probeOf(graphPath, config), format, floats, sites, threads })
    events.onProgress('testing the device', 1, 1)
  }
  const plainRunner = createRunner({
    graphPath,
    config,
    threads,
    rows: options.maxBatch,
    capacity: memory.capacity,
    sites,
    maxChunk,
    floats,
    accelerator: device.accelerator,
  })
  const runner =
    device.accelerator === null ? plainRunner : guardRunner(plainRunner, events.onDeviceFailure)
  const store = createAdapterStore({
    root: options.adapters,
    modelConfig: config,
    sites: new Set(sites),
    maxBytes: memory.bytes.adapters,
    maxRankPerRow: options.maxAdapterRank,
  })
  const loop = createLoop({
    runner,
    prefixCache: createPrefixCache<SavedCacheRow>({ maxBytes: memory.bytes.prefixCache }),
    rows: options.maxBatch,
    capacity: memory.capacity,
    vocabSize: config.vocabSize,
    maxChunk,
    publish: (batch) => {
      events.publish(batch)
      reportStats()
    },
    now: () => performance.now(),
  })
  /** Requests being prepared (adapters loading) that were cancelled meanwhile. */
  const preparing = new Map<string, { isCancelled: boolean }>()

  function reportStats(): void {
    events.onStats(loop.stats(store.residentIds().length))
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

  async function prepare(request: GenerateRequest, state: { isCancelled: boolean }) {
    const { tokens, startsInReasoning } = encodePrompt(request.prompt)
    const maxTokens = boundTokens(tokens.length, request.maxTokens, memory.capacity)
    const held = await store.acquire(request.adapters)
    if (state.isCancelled) {
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
    maxContext: memory.capacity,
    numParameters: checkpoint.numParameters,
    weights,
    device: device.name,
    maxBatch: options.maxBatch,
    kvCapacityTokens: options.maxBatch * memory.capacity,
    defaults: {
      temperature: generation.temperature,
      topP: generation.topP,
      topK: generation.topK,
    },
    created: checkpoint.created,
    bytes: memory.bytes,
  }

  return {
    model,

    /** Ends in exactly one terminal event, also when the request cannot be run at all. */
    async submit(request: GenerateRequest): Promise<void> {
      const state = { isCancelled: false }
      preparing.set(request.id, state)
      try {
        await prepare(request, state)
      } catch (error) {
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
      const state = preparing.get(id)
      if (state !== undefined) state.isCancelled = true
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

    listAdapters(_: null): readonly AdapterSummary[] {
      return store.list()
    },

    get stepMs(): number | null {
      return loop.stepMs
    },

    close(): void {
      runner.release()
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
