// Runs the decoder graph over the rows of a KV cache. A step reads and appends in place; what a run
// returns is a view that the next run overwrites.

import type { ScaledComponent } from '../contracts/adapter.ts'
import {
  cpuTarget,
  type GraphTarget,
  type LinearModule,
  type ModelConfig,
} from '../contracts/checkpoint.ts'
import { logitBlock } from '../graph/embedding.ts'
import {
  type Accelerator,
  type AnyTensor,
  allocateTensor,
  type Binding,
  openSession,
  type Tensor,
} from '../runtime/session.ts'
import { createAdapterRows } from './adapter-rows.ts'
import { createDeviceKvCache } from './device-kv-cache.ts'
import {
  type CacheView,
  createKvCache,
  type KvCacheShape,
  type SavedPositions,
} from './kv-cache.ts'

export interface PrefillInput {
  readonly row: number
  readonly tokens: readonly number[]
  /** Tokens of this row already in the cache. */
  readonly past: number
  readonly components: readonly ScaledComponent[]
  /** Of how many of the last tokens logits are wanted; 1 unless said. */
  readonly numLogits?: number
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
  /** Most cache rows that are ever in use. */
  readonly rows: number
  /** How the cache begins; reshape changes it. */
  readonly shape: KvCacheShape
  /** The modules that the graph was built to adapt. */
  readonly sites: readonly LinearModule[]
  /** Most new tokens in one prefill. */
  readonly maxChunk: number
  /** What the graph was built for; the CPU unless said. */
  readonly target?: GraphTarget
  /** Where it runs; null or left out: on the CPU, which can run any graph. */
  readonly accelerator?: Accelerator | null
}

export type { SavedPositions }

interface Bound {
  readonly binding: Binding
  readonly release: () => void
}

/** Logits, [positions, vocab], and the largest of each block of them, [positions, blocks]. */
interface LogitTensors {
  readonly values: Tensor<'float32'>
  readonly blockMax: Tensor<'float32'>
}

function releaseLogits({ values, blockMax }: LogitTensors): void {
  values.release()
  blockMax.release()
}

export type Runner = ReturnType<typeof createRunner>

/** Loads the graph and allocates the cache. Blocks while it does. */
export function createRunner(options: RunnerOptions) {
  const { config, rows, sites, maxChunk, threads, target = cpuTarget, accelerator = null } = options
  const session = openSession({ graph: options.graphPath, threads, accelerator })
  const device = accelerator && { session, accelerator }
  const cacheOptions = { config, ...options.shape, floats: target.cacheFloats }
  const cache = device
    ? createDeviceKvCache({ ...cacheOptions, ...device })
    : createKvCache(cacheOptions)
  const adapterOptions = { config, sites, target, device }
  const decodeAdapters = createAdapterRows({ ...adapterOptions, rows, minWidth: 1 })
  // ONNX Runtime multiplies several tokens with a lone vector in another kernel, whose rounding
  // depends on their number; with two vectors every token comes out the same in any chunk.
  const minWidth = target.kernels === 'own' ? 1 : 2
  const prefillAdapters = createAdapterRows({ ...adapterOptions, rows: 1, minWidth })
  const ids = allocateTensor('int64', [Math.max(rows, maxChunk)])
  const seqlens = allocateTensor('int32', [rows])
  const total = allocateTensor('int32', [])
  const firstLogits = allocateTensor('int64', [1])
  const numBlocks = config.vocabSize / logitBlock(config.vocabSize)
  const lastLogits = allocateLogits(rows)
  /** Of several positions of a prompt; made when first asked for, as large as ever asked for. */
  let promptLogits: LogitTensors | undefined
  let blockMax = lastLogits.blockMax.data
  /** By number of rows; made anew when the adapters are laid out anew. */
  const decodeBindings = new Map<number, Bound>()

  /** Binds `count` cache rows, each with `tokens` new tokens. */
  function bindRows(
    kv: CacheView,
    count: number,
    tokens: number,
    adapters: Map<string, AnyTensor>,
    { values, blockMax }: LogitTensors,
  ): Bound {
    const inputs = new Map<string, AnyTensor>([
      ['input_ids', ids.view([count, tokens])],
      ['seqlens_k', seqlens.view([count])],
      ['total_sequence_length', total.view([])],
      ['first_logits', firstLogits.view([1])],
      ...kv.inputs,
      ...adapters,
    ])
    const outputs = new Map<string, AnyTensor>([
      ['logits', values],
      ['block_max', blockMax],
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

  function allocateLogits(positions: number): LogitTensors {
    return {
      values: allocateTensor('float32', [positions, config.vocabSize]),
      blockMax: allocateTensor('float32', [positions, numBlocks]),
    }
  }

  const viewLogits = (of: LogitTensors, count: number, positions: number): LogitTensors => ({
    values: of.values.view([count, positions, config.vocabSize]),
    blockMax: of.blockMax.view([count, positions, numBlocks]),
  })

  /** Where `count` positions' logits go. */
  function promptLogitsFor(count: number): LogitTensors {
    if (promptLogits === undefined || (promptLogits.values.dims[0] ?? 0) < count) {
      if (promptLogits !== undefined) releaseLogits(promptLogits)
      promptLogits = allocateLogits(count)
    }
    return promptLogits
  }

  function releaseDecodeBindings(): void {
    for (const bound of decodeBindings.values()) bound.release()
    decodeBindings.clear()
  }

  return {
    /** Appends one row's tokens; returns the last `numLogits` tokens' logits, [numLogits × vocab]. */
    async prefill(input: PrefillInput): Promise<Float32Array> {
      const { row, tokens, past, components, numLogits = 1 } = input
      for (const [i, token] of tokens.entries()) ids.data[i] = BigInt(token)
      seqlens.data[0] = past + tokens.length - 1
      total.data[0] = past + tokens.length
      firstLogits.data[0] = BigInt(-numLogits)
      prefillAdapters.write([components])
      const memory = numLogits === 1 ? lastLogits : promptLogitsFor(numLogits)
      const logits = viewLogits(memory, 1, numLogits)
      const kv = cache.prefillView(row, past, tokens.length)
      const bound = bindRows(kv, 1, tokens.length, prefillAdapters.view(1), logits)
      try {
        await bound.binding.run()
      } finally {
        bound.release()
      }
      blockMax = memory.blockMax.data
      return memory.values.data.subarray(0, numLogits * config.vocabSize)
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
      firstLogits.data[0] = -1n
      const isNewLayout = decodeAdapters.write(batch.map(({ components }) => components))
      if (isNewLayout) releaseDecodeBindings()
      let bound = decodeBindings.get(batch.length)
      if (bound === undefined) {
        const count = batch.length
        const logits = viewLogits(lastLogits, count, 1)
        const kv = cache.decodeView(count)
        bound = bindRows(kv, count, 1, decodeAdapters.view(count), logits)
        decodeBindings.set(batch.length, bound)
      }
      cache.beforeDecode(batch.length)
      await bound.binding.run()
      blockMax = lastLogits.blockMax.data
      return lastLogits.values.data.subarray(0, batch.length * config.vocabSize)
    },

    /** The largest logit of each block of the vocabulary, for what the last run returned. */
    get blockMax(): Float32Array {
      return blockMax
    },

    numBlocks,
    positionBytes: cache.positionBytes,
    copyRow: cache.copyRow,
    savePositions: cache.savePositions,
    restorePositions: cache.restorePositions,

    /** Changes the cache between two runs; row r keeps its first lengths[r] positions. */
    reshape(shape: KvCacheShape, lengths: readonly number[]): void {
      releaseDecodeBindings()
      cache.reshape(shape, lengths)
    },

    release(): void {
      releaseDecodeBindings()
      for (const adapters of [decodeAdapters, prefillAdapters]) adapters.release()
      cache.release()
      for (const logits of [lastLogits, promptLogits]) if (logits) releaseLogits(logits)
      for (const tensor of [ids, seqlens, total, firstLogits]) tensor.release()
      session.release()
    },
  }
}
