// How much KV cache and adapters the engine takes, decided once before anything is allocated.

import { freemem } from 'node:os'
import {
  type FloatType,
  type LinearModule,
  type ModelConfig,
  moduleShape,
  type WeightFormat,
} from '../contracts/checkpoint.ts'
import type { EngineOptions } from '../contracts/engine.ts'
import { ServerError } from '../errors.ts'

const floatBytes = { float32: 4, float16: 2 } as const satisfies Record<FloatType, number>
/** Share of the free memory that the KV cache may take when --kv-memory is not given. */
const kvShare = 0.5
/** The same on a GPU: nothing tells how much of its memory is free. */
const deviceKvBytes = 2 * 2 ** 30
/** The same for adapters when --adapter-memory is not given. */
const adapterShare = 0.1
/** Room for some adapters even where little is free. */
const minAdapters = 8

export interface MemoryPlan {
  /** KV positions per row: the longest context that is served. */
  readonly capacity: number
  readonly bytes: {
    readonly weights: number
    readonly kv: number
    /** Most that adapters kept in memory may take. */
    readonly adapters: number
    readonly prefixCache: number
  }
}

export function planMemory(input: {
  config: ModelConfig
  options: EngineOptions
  format: WeightFormat
  /** What the graph computes in. */
  floats: FloatType
  sites: readonly LinearModule[]
  numParameters: number
}): MemoryPlan {
  const { config, options, format, floats, numParameters } = input
  if (options.maxContext !== null && options.maxContext > config.maxPosition) {
    throw new ServerError(
      'invalid_config',
      `--max-context must be at most ${config.maxPosition} for this model; got ${options.maxContext}.`,
    )
  }
  const asked = options.maxContext ?? config.maxPosition
  const weights = Math.ceil(numParameters * bytesPerParameter(format))
  const tokenBytes = 2 * config.numLayers * config.numKvHeads * config.headDim * floatBytes[floats]
  const free = Math.max(0, freemem() - weights) * kvShare
  const budget = options.kvMemoryBytes ?? (options.device === 'cpu' ? free : deviceKvBytes)
  const affordable = Math.floor(budget / (tokenBytes * options.maxBatch))
  const capacity = Math.min(asked, affordable)
  if (capacity < 16 || (options.maxContext !== null && capacity < options.maxContext)) {
    throw new ServerError(
      'invalid_config',
      `The KV cache does not fit: ${options.maxBatch} rows of ${asked} tokens take ` +
        `${mebibytes(tokenBytes * options.maxBatch * asked)} MiB and ${mebibytes(budget)} MiB may be used. ` +
        'Lower --max-context or --max-batch, or raise --kv-memory.',
    )
  }
  const siteSizes = input.sites.map((module) => {
    const { inner, outer } = moduleShape(config, module)
    return inner + outer
  })
  const kv = tokenBytes * options.maxBatch * capacity
  // What the rows leave keeps the beginnings of earlier prompts.
  const prefixCache = Math.max(0, Math.floor(budget - kv))
  const rankBytes =
    config.numLayers * siteSizes.reduce((sum, size) => sum + size, 0) * floatBytes.float32
  const spare = Math.max(0, freemem() - weights - kv) * adapterShare
  const adapters = options.adapterMemoryBytes ?? Math.max(minAdapters * rankBytes, spare)
  return {
    capacity,
    bytes: {
      weights,
      kv,
      adapters: Math.floor(adapters),
      prefixCache,
    },
  }
}

/** Quantised blocks carry one float32 scale each. */
function bytesPerParameter(format: WeightFormat): number {
  switch (format.kind) {
    case 'fp32':
      return floatBytes.float32
    case 'fp16':
      return floatBytes.float16
    case 'quantized':
      return format.bits / 8 + floatBytes.float32 / format.block
  }
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20)
}
