// Runs the decoder graph over the rows of a KV cache. A step reads and appends in place; what a run
// returns is a view that the next run overwrites.

import type { ScaledComponent } from '../contracts/adapter.ts'
import type { FloatType, LinearModule, ModelConfig } from '../contracts/checkpoint.ts'
import { createAdapterRows } from './adapter-rows.ts'
import { createDeviceKvCache } from './device-kv-cache.ts'
import { type CacheView, createKvCache, type SavedCacheRow } from './kv-cache.ts'
import {
  type Accelerator,
  type AnyTensor,
  allocateTensor,
  type Binding,
  openSession,
} from './session.ts'

export interface PrefillInput {
  readonly row: number
  readonly tokens: readonly number[]
  /** Tokens of this row already in the cache. */
  readonly past: number
  readonly components: readonly ScaledComponent[]
}

export interface DecodeRow {
  readonly token: number
  readonly past: number
  readonly components: readonly ScaledComponent[]
}

export interface RunnerOptions {
  readonly graphPath: string
  readonly config: ModelConfig
  readonly threads: number
  /** Number of cache rows. */
  readonly rows: number
  /** Positions per row. */
  readonly capacity: number
  /** The modules that the graph was built to adapt. */
  readonly sites: readonly LinearModule[]
  /** Most new tokens in one prefill. */
  readonly maxChunk: number
  /** What the graph computes in. */
  readonly floats: FloatType
  /** null: the CPU. */
  readonly accelerator: Accelerator | null
}

export type { SavedCacheRow }

interface Bound {
  readonly binding: Binding
  readonly release: () => void
}

export type Runner = ReturnType<typeof createRunner>

/** Loads the graph and allocates the cache. Blocks while it does. */
export function createRunner(options: RunnerOptions) {
  const { config, rows, capacity, sites, maxChunk, floats, accelerator, threads } = options
  const session = openSession({ graph: options.graphPath, threads, accelerator })
  const device = accelerator && { session, accelerator }
  const cacheOptions = { config, rows, capacity, floats }
  const cache = device
    ? createDeviceKvCache({ ...cacheOptions, ...device })
    : createKvCache(cacheOptions)
  const adapterOptions = { config, sites, floats, device }
  const decodeAdapters = createAdapterRows({ ...adapterOptions, rows, minWidth: 1 })
  // ONNX Runtime multiplies several tokens with a lone vector in another kernel, whose rounding
  // depends on their number; with two vectors every token comes out the same in any chunk.
  const prefillAdapters = createAdapterRows({ ...adapterOptions, rows: 1, minWidth: 2 })
  const ids = allocateTensor('int64', [Math.max(rows, maxChunk)])
  const seqlens = allocateTensor('int32', [rows])
  const total = allocateTensor('int32', [])
  const logits = allocateTensor('float32', [rows * config.vocabSize])
  /** By number of rows; made anew when the adapters are laid out anew. */
  const decodeBindings = new Map<number, Bound>()

  /** Binds `count` cache rows, each with `tokens` new tokens. */
  function bindRows(
    kv: CacheView,
    count: number,
    tokens: number,
    adapters: Map<string, AnyTensor>,
  ): Bound {
    const inputs = new Map<string, AnyTensor>([
      ['input_ids', ids.view([count, tokens])],
      ['seqlens_k', seqlens.view([count])],
      ['total_sequence_length', total.view([])],
      ...kv.inputs,
      ...adapters,
    ])
    const outputs = new Map<string, AnyTensor>([
      ['logits', logits.view([count, 1, config.vocabSize])],
      ...kv.outputs,
    ])
    const binding = session.bind(inputs, outputs)
    return {
      binding,
      release: () => {
        binding.release()
        for (const tensor of new Set([...inputs.values(), ...outputs.values()])) tensor.release()
      },
    }
  }

  function releaseDecodeBindings(): void {
    for (const bound of decodeBindings.values()) bound.release()
    decodeBindings.clear()
  }

  return {
    /** Appends one row's tokens; returns the last token's logits, [vocab]. */
    async prefill({ row, tokens, past, components }: PrefillInput): Promise<Float32Array> {
      for (const [i, token] of tokens.entries()) ids.data[i] = BigInt(token)
      seqlens.data[0] = past + tokens.length - 1
      total.data[0] = past + tokens.length
      prefillAdapters.write([components])
      const kv = cache.prefillView(row, past, tokens.length)
      const bound = bindRows(kv, 1, tokens.length, prefillAdapters.view(1))
      try {
        await bound.binding.run()
      } finally {
        bound.release()
      }
      return logits.data.subarray(0, config.vocabSize)
    },

    /** One token for each of rows 0 … n − 1; returns their logits, [n × vocab]. */
    async decode(batch: readonly DecodeRow[]): Promise<Float32Array> {
      let longest = 0
      for (const [row, { token, past }] of batch.entries()) {
        ids.data[row] = BigInt(token)
        seqlens.data[row] = past
        longest = Math.max(longest, past + 1)
      }
      total.data[0] = longest
      const isNewLayout = decodeAdapters.write(batch.map(({ components }) => components))
      if (isNewLayout) releaseDecodeBindings()
      let bound = decodeBindings.get(batch.length)
      if (bound === undefined) {
        const kv = cache.decodeView(batch.length)
        bound = bindRows(kv, batch.length, 1, decodeAdapters.view(batch.length))
        decodeBindings.set(batch.length, bound)
      }
      cache.beforeDecode(batch.length)
      await bound.binding.run()
      return logits.data.subarray(0, batch.length * config.vocabSize)
    },

    copyRow: cache.copyRow,
    savedBytes: cache.savedBytes,
    saveRow: cache.saveRow,
    restoreRow: cache.restoreRow,

    release(): void {
      releaseDecodeBindings()
      for (const adapters of [decodeAdapters, prefillAdapters]) adapters.release()
      cache.release()
      for (const tensor of [ids, seqlens, total, logits]) tensor.release()
      session.release()
    },
  }
}
