// Runs the decoder graph over the rows of a KV cache. A step reads and appends in place; what a run
// returns is a view that the next run overwrites.

import {
  cpuTarget,
  type GraphTarget,
  type LinearModule,
  type ModelConfig,
} from '../contracts/checkpoint.ts'
import { type Accelerator, type AnyTensor, type Binding, openSession } from '../runtime/session.ts'
import { createAdapterRows } from './adapter-rows.ts'
import { createDeviceKvCache } from './device-kv-cache.ts'
import { type CacheView, createKvCache, type KvCacheShape } from './kv-cache.ts'
import { createLogitMemory, type LogitTensors } from './logits.ts'
import { createStepInputs, type DecodeRow, type PrefillInput } from './step-inputs.ts'

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

interface Bound {
  readonly binding: Binding
  readonly release: () => void
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
  const inputs = createStepInputs(rows, maxChunk)
  const logits = createLogitMemory(config.vocabSize, rows)
  let blockMax = logits.last.blockMax.data
  /** By number of rows; made anew when the adapters are laid out anew. */
  const decodeBindings = new Map<number, Bound>()

  /** Binds `count` cache rows, each with `tokens` new tokens, of which `positions` give logits. */
  function bindRows(
    kv: CacheView,
    count: number,
    tokens: number,
    adapters: Map<string, AnyTensor>,
    memory: LogitTensors,
    positions: number,
  ): Bound {
    const { values, blockMax } = logits.view(memory, count, positions)
    const bound = new Map([...inputs.view(count, tokens), ...kv.inputs, ...adapters])
    const outputs = new Map<string, AnyTensor>([
      ['logits', values],
      ['block_max', blockMax],
      ...kv.outputs,
    ])
    const binding = session.bind(bound, outputs)
    return {
      binding,
      release: () => {
        binding.release()
        for (const tensor of new Set([...bound.values(), ...outputs.values()])) tensor.release()
      },
    }
  }

  function releaseDecodeBindings(): void {
    for (const bound of decodeBindings.values()) bound.release()
    decodeBindings.clear()
  }

  return {
    /** Appends one row's tokens; returns the last `numLogits` tokens' logits, [numLogits × vocab]. */
    async prefill(input: PrefillInput): Promise<Float32Array> {
      const { row, tokens, past, components, numLogits = 1 } = input
      inputs.writePrefill(input)
      prefillAdapters.write([components])
      const memory = logits.ofPrompt(numLogits)
      const kv = cache.prefillView(row, past, tokens.length)
      const bound = bindRows(kv, 1, tokens.length, prefillAdapters.view(1), memory, numLogits)
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
      const count = batch.length
      inputs.writeDecode(batch)
      const isNewLayout = decodeAdapters.write(batch.map(({ components }) => components))
      if (isNewLayout) releaseDecodeBindings()
      let bound = decodeBindings.get(count)
      if (bound === undefined) {
        const kv = cache.decodeView(count)
        bound = bindRows(kv, count, 1, decodeAdapters.view(count), logits.last, 1)
        decodeBindings.set(count, bound)
      }
      cache.beforeDecode(count)
      await bound.binding.run()
      blockMax = logits.last.blockMax.data
      return logits.last.values.data.subarray(0, count * config.vocabSize)
    },

    /** The largest logit of each block of the vocabulary, for what the last run returned. */
    get blockMax(): Float32Array {
      return blockMax
    },

    numBlocks: logits.numBlocks,
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
      logits.release()
      inputs.release()
      session.release()
    },
  }
}
