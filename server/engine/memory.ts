// The memory plan: how much weights, KV cache and adapters may take of the free memory. It is made once,
// before anything is allocated. A model that cannot fit is refused here instead of being killed by the
// system later.

import { rowWidth } from '../contracts/adapter.ts'
import { mebibytes } from '../contracts/bytes.ts'
import {
  type GraphTarget,
  type LinearModule,
  type ModelConfig,
  moduleShape,
} from '../contracts/checkpoint.ts'
import type { EngineOptions } from '../contracts/engine.ts'
import { floatBytes } from '../contracts/float-type.ts'
import { describeParts, type MemoryParts } from '../contracts/memory.ts'
import { ServerError } from '../errors.ts'
import type { KvLimits } from '../loop/kv-shape.ts'
import { positionBytesOf } from '../model/kv-cache.ts'
import { verdictRows } from '../model/runner.ts'

const float32Bytes = floatBytes.float32
/** The KV cache's share of what weights and workspace leave, when --kv-memory is not given. */
const kvShare = 0.5
/** The KV cache's bytes on a GPU: ONNX Runtime does not say how much of its memory is free. */
const deviceKvBytes = 2 * 2 ** 30
/** The adapters' share of what then remains, when --adapter-memory is not given. */
const adapterShare = 0.1
/** Room for some adapters even where little is free. */
const minAdapters = 8
/** A shorter context serves nobody. */
const minContext = 16

export interface MemoryPlan {
  readonly limits: KvLimits
  /** The most that each part may take. */
  readonly bytes: MemoryParts
}

export interface MemoryNeeds {
  readonly config: ModelConfig
  readonly options: EngineOptions
  readonly target: GraphTarget
  readonly sites: readonly LinearModule[]
  /** Total rank of the adapters in the weights, 0 by default: a row may have to take them off. */
  readonly mergedRank?: number
  /** Whose adapter runs in rows of its own; null: there is none. */
  readonly guard: { readonly rank: number; readonly modules: readonly LinearModule[] } | null
  /** Of the converted weights. */
  readonly weightBytes: number
  /** Free memory of the machine, for this process. */
  readonly freeBytes: number
  readonly maxChunk: number
}

export function planMemory(needs: MemoryNeeds): MemoryPlan {
  const { config, options, weightBytes: weights, freeBytes, maxChunk, mergedRank = 0 } = needs
  const { floats, cacheFloats } = needs.target
  if (options.maxContext !== null && options.maxContext > config.maxPosition) {
    throw new ServerError(
      'invalid_config',
      `--max-context must be at most ${config.maxPosition} for this model; got ${options.maxContext}.`,
    )
  }
  const asked = options.maxContext ?? config.maxPosition
  const workspace = workspaceBytes(config, options.maxBatch, maxChunk)
  const rankBytes = rankBytesOf(config, needs.sites)
  const leastAdapters = options.adapterMemoryBytes ?? minAdapters * rankBytes
  const rowRank = options.maxAdapterRank + mergedRank
  const ofRow = (rankBytes * floatBytes[floats]) / float32Bytes
  const rowBytes = adapterRowBytes(options.maxBatch, rowRank, ofRow)
  const adapterRows = rowBytes + guardBytes(needs)
  const tokenBytes = positionBytesOf(config, cacheFloats)
  // With a GPU only adapters and saved prompts are in the machine's memory.
  const isOnHost = options.device === 'cpu'
  const left = freeBytes - leastAdapters - adapterRows - (isOnHost ? weights + workspace : 0)

  const leastContext = options.maxContext ?? Math.min(minContext, config.maxPosition)
  const leastKv = options.kvMemoryBytes ?? tokenBytes * leastContext
  if (isOnHost && left < leastKv) {
    const least = { weights, workspace, adapters: leastAdapters, adapterRows, kv: leastKv }
    throw new ServerError(
      'invalid_config',
      `The model needs ${describeParts(least)} and ${mebibytes(freeBytes)} MiB are free. ` +
        'Choose --weights int4, a smaller model, --max-context, --kv-memory, --adapter-memory, ' +
        '--max-adapter-rank or --max-batch, or free memory.',
    )
  }
  const kvBudget = isOnHost ? left * kvShare : deviceKvBytes
  // More than full rows, and as much again of earlier prompts, is of no use.
  const useful = 2 * options.maxBatch * asked * tokenBytes
  const kv = options.kvMemoryBytes ?? Math.max(leastKv, Math.min(kvBudget, useful))
  const maxPositions = Math.floor(kv / tokenBytes)
  const maxCapacity = Math.min(asked, maxPositions)
  if (maxCapacity < leastContext) {
    throw new ServerError(
      'invalid_config',
      `The KV cache does not fit: one row of ${leastContext} tokens takes ` +
        `${mebibytes(tokenBytes * leastContext)} MiB and ${mebibytes(kv)} MiB may be used. ` +
        'Lower --max-context or raise --kv-memory.',
    )
  }
  const spare = Math.max(0, left - kv) * adapterShare
  return {
    limits: { maxRows: options.maxBatch, maxCapacity, maxPositions },
    bytes: {
      weights,
      workspace,
      adapters: Math.floor(options.adapterMemoryBytes ?? Math.max(leastAdapters, spare)),
      adapterRows,
      kv: maxPositions * tokenBytes,
    },
  }
}

/** Logits of every row, and a chunk's activations in one layer. */
function workspaceBytes(config: ModelConfig, rows: number, maxChunk: number): number {
  const { vocabSize, hiddenSize, intermediateSize } = config
  const perToken = 6 * hiddenSize + 4 * intermediateSize
  return float32Bytes * (rows * vocabSize + maxChunk * perToken)
}

/**
 * Every row of the batch, and the prompt that comes in, as wide as a request may make them; a prompt's
 * site has a width of at least 2 (`model/runner.ts`). `rankBytes`: one component as the graph holds it.
 */
function adapterRowBytes(maxBatch: number, rank: number, rankBytes: number): number {
  return (maxBatch * rowWidth(rank) + rowWidth(Math.max(2, rank))) * rankBytes
}

/** The guard as it was read, and in the rows of verdicts (`model/runner.ts`). */
function guardBytes({ config, options, target, guard, mergedRank = 0 }: MemoryNeeds): number {
  if (guard === null) return 0
  const { modules } = guard
  const rank = guard.rank + mergedRank
  const rankBytes = rankBytesOf(config, modules)
  const rows = verdictRows(target, options.maxBatch) * rowWidth(rank)
  return rank * rankBytes + (rows * rankBytes * floatBytes[target.floats]) / float32Bytes
}

/** One rank-1 component on each of these modules, as the store keeps it. */
function rankBytesOf(config: ModelConfig, modules: readonly LinearModule[]): number {
  const sizes = modules.map((module) => {
    const { inner, outer } = moduleShape(config, module)
    return inner + outer
  })
  return config.numLayers * sizes.reduce((sum, size) => sum + size, 0) * float32Bytes
}
