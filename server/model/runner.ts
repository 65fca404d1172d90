// Runs the decoder graph over the rows of a KV cache. A step reads and appends in place; what a run
// returns is a view that the next run overwrites.

import type { ScaledComponent } from '../contracts/adapter.ts'
import type { LinearModule, ModelConfig } from '../contracts/checkpoint.ts'
import { createAdapterRows } from './adapter-rows.ts'
import { createKvCache, type KvCacheShape, type SavedPositions } from './kv-cache.ts'
import { allocateTensor, type Binding, openSession, type Tensor } from './session.ts'

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
}

export type { SavedPositions }

interface Bound {
  readonly binding: Binding
  readonly release: () => void
}

export type Runner = ReturnType<typeof createRunner>

/** Loads the graph and allocates the cache. Blocks while it does. */
export function createRunner(options: RunnerOptions) {
  const { config, rows, sites, maxChunk } = options
  const session = openSession({ path: options.graphPath, threads: options.threads })
  const cache = createKvCache({ config, ...options.shape })
  const decodeAdapters = createAdapterRows({ config, sites, rows })
  const prefillAdapters = createAdapterRows({ config, sites, rows: 1 })
  const ids = allocateTensor('int64', [Math.max(rows, maxChunk)])
  const seqlens = allocateTensor('int32', [rows])
  const total = allocateTensor('int32', [])
  const firstLogits = allocateTensor('int64', [1])
  const lastLogits = allocateTensor('float32', [rows * config.vocabSize])
  /** Of several positions of a prompt; made when first asked for, as large as ever asked for. */
  let promptLogits: Tensor<'float32'> | undefined
  /** By number of rows; made anew when the adapters are laid out anew. */
  const decodeBindings = new Map<number, Bound>()

  /** Binds cache rows first … first + count − 1, each with `tokens` new tokens. */
  function bindRows(
    first: number,
    count: number,
    tokens: number,
    adapters: Map<string, Tensor>,
    logits: Tensor<'float32'>,
  ): Bound {
    const kv = cache.view(first, count)
    const inputs = new Map<string, Tensor>([
      ['input_ids', ids.view([count, tokens])],
      ['seqlens_k', seqlens.view([count])],
      ['total_sequence_length', total.view([])],
      ['first_logits', firstLogits.view([1])],
      ...kv.inputs,
      ...adapters,
    ])
    const outputs = new Map<string, Tensor>([['logits', logits], ...kv.outputs])
    const binding = session.bind(inputs, outputs)
    return {
      binding,
      release: () => {
        binding.release()
        for (const tensor of new Set([...inputs.values(), ...outputs.values()])) tensor.release()
      },
    }
  }

  /** Where `count` positions' logits go. */
  function promptLogitsFor(count: number): Tensor<'float32'> {
    const size = count * config.vocabSize
    if (promptLogits === undefined || (promptLogits.dims[0] ?? 0) < size) {
      promptLogits?.release()
      promptLogits = allocateTensor('float32', [size])
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
      const logits = memory.view([1, numLogits, config.vocabSize])
      const bound = bindRows(row, 1, tokens.length, prefillAdapters.view(1), logits)
      try {
        await bound.binding.run()
      } finally {
        bound.release()
      }
      return memory.data.subarray(0, numLogits * config.vocabSize)
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
        const logits = lastLogits.view([count, 1, config.vocabSize])
        bound = bindRows(0, count, 1, decodeAdapters.view(count), logits)
        decodeBindings.set(batch.length, bound)
      }
      await bound.binding.run()
      return lastLogits.data.subarray(0, batch.length * config.vocabSize)
    },

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
      const tensors = [ids, seqlens, total, firstLogits, lastLogits, promptLogits]
      for (const tensor of tensors) tensor?.release()
      session.release()
    },
  }
}
