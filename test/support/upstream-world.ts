// The engine over fake upstreams, in this process: a checkpoint without weights, adapters of the small model,
// and requests whose events are kept.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ModelConfig } from '../../server/contracts/checkpoint.ts'
import type { EngineOptions, EngineStats } from '../../server/contracts/engine.ts'
import {
  type GenerateRequest,
  type GenerationEvent,
  isTerminal,
} from '../../server/contracts/generation.ts'
import { openUpstreamEngine } from '../../server/engine/open-upstream.ts'
import { loadTokenizer } from '../../server/tokenizer/tokenizer.ts'
import { writeByteTokenizer } from './byte-tokenizer.ts'
import { within } from './deadline.ts'
import { type FakeVllm, fakeEnd, fakeVocab } from './fake-vllm.ts'
import { smallModel, upTensors, writeAdapter } from './tensor-files.ts'

export const patience = 20_000

export const upstreamModel: ModelConfig = { ...smallModel, vocabSize: fakeVocab, maxPosition: 256 }

/** A checkpoint's folder without weights. */
export function writeDescription(dir: string): string {
  writeByteTokenizer(dir)
  const config = {
    architectures: ['Qwen2ForCausalLM'],
    model_type: 'qwen2',
    hidden_size: 8,
    intermediate_size: 12,
    num_hidden_layers: 3,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    vocab_size: fakeVocab,
    max_position_embeddings: 256,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000,
    tie_word_embeddings: true,
    hidden_act: 'silu',
    eos_token_id: fakeEnd,
  }
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config))
  return dir
}

/** One on up_proj of every layer; `seed` makes it another. */
export function writeUpAdapter(root: string, id: string, seed: number, rank = 1): void {
  const tensors = upTensors({ rank, seed, model: upstreamModel })
  writeAdapter(root, id, { config: { r: rank, lora_alpha: 2 * rank }, tensors })
}

export interface WorldOptions {
  readonly dir: string
  readonly upstreams: readonly Pick<FakeVllm, 'url'>[]
  readonly options?: Partial<EngineOptions>
  readonly slots?: number
  readonly silenceMs?: number
  readonly healthTimeoutMs?: number
  readonly key?: string
  readonly onProgress?: () => void
}

export type World = Awaited<ReturnType<typeof openWorld>>

/** As in the folder `dir`: model/, adapters/, shared/, cache/. */
export async function openWorld({ dir, upstreams, options = {}, ...more }: WorldOptions) {
  const model = writeDescription(join(dir, 'model'))
  const adapters = join(dir, 'adapters')
  mkdirSync(adapters, { recursive: true })
  const events = new Map<string, GenerationEvent[]>()
  const endings = new Map<string, () => void>()
  const listeners = new Set<() => void>()
  const notices: string[] = []
  /** Each change: a code, or null where it serves again. */
  const outages: (string | null)[] = []
  let stats: EngineStats | undefined
  const engine = await openUpstreamEngine(
    {
      model,
      servedModelName: 'served',
      adapters,
      operatorsAdapters: [],
      adapterModules: [],
      scansAdapters: false,
      guard: 'none',
      acceptsOtherBases: true,
      guardExact: false,
      merged: [],
      device: 'cpu',
      onnxruntime: null,
      kernels: 'auto',
      weights: 'auto',
      kvCacheDtype: 'auto',
      weightBlock: null,
      weightZeroPoints: null,
      maxBatch: 16,
      maxContext: null,
      kvMemoryBytes: null,
      maxAdapterRank: 8,
      adapterMemoryBytes: null,
      threads: null,
      cacheDir: join(dir, 'cache'),
      upstream: null,
      ...options,
    },
    {
      urls: upstreams.map(({ url }) => url),
      adaptersDir: join(dir, 'shared'),
      slots: more.slots ?? null,
      silenceMs: more.silenceMs ?? 10_000,
      healthMs: 20,
      healthTimeoutMs: more.healthTimeoutMs ?? 5000,
      key: more.key ?? null,
      fingerprint: join(dir, 'fingerprint.json'),
    },
    {
      heart: { enter() {}, progress: () => more.onProgress?.() },
      publish(batch) {
        for (const [id, event] of batch) {
          events.get(id)?.push(event)
          if (isTerminal(event)) endings.get(id)?.()
        }
        for (const listener of listeners) listener()
      },
      onStats: (now) => (stats = now),
      onOutage(error) {
        outages.push(error?.code ?? null)
        for (const listener of listeners) listener()
      },
      onProgress() {},
      onNotice(message) {
        notices.push(message)
        for (const listener of listeners) listener()
      },
      onDeviceFailure() {},
    },
  )

  return {
    engine,
    notices,
    outages,
    tokenizer: loadTokenizer(model),
    sharedDir: join(dir, 'shared'),
    get stats() {
      return stats
    },
    eventsOf: (id: string) => events.get(id) ?? [],
    /** Its events, once it ended. */
    async run(request: GenerateRequest): Promise<readonly GenerationEvent[]> {
      const list: GenerationEvent[] = []
      events.set(request.id, list)
      const ended = new Promise<void>((resolve) => endings.set(request.id, resolve))
      void engine.submit(request)
      await within(patience, `end of ${request.id}`, ended)
      return list
    },
    untilNotice(pattern: RegExp): Promise<void> {
      return this.until(`notice ${pattern}`, () => notices.some((one) => pattern.test(one)))
    },
    /** Once it is true; looked at after each batch of events. */
    async until(what: string, isTrue: () => boolean): Promise<void> {
      if (isTrue()) return
      await within(
        patience,
        what,
        new Promise<void>((resolve) => {
          const look = () => {
            if (!isTrue()) return
            listeners.delete(look)
            resolve()
          }
          listeners.add(look)
        }),
      )
    },
  }
}

export const textOfEvents = (events: readonly GenerationEvent[], index = 0): string =>
  events
    .flatMap((event) => (event.kind === 'delta' && event.index === index ? [event.text] : []))
    .join('')

export function failureIn(events: readonly GenerationEvent[]) {
  const last = events.at(-1)
  return last?.kind === 'failed' ? last.error : null
}
