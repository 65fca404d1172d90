// What the engine says of itself once it can serve.

import type { Checkpoint } from '../checkpoint/checkpoint.ts'
import { type EngineOptions, type ModelInfo, ownCapabilities } from '../contracts/engine.ts'
import { floatNames } from '../contracts/float-type.ts'
import type { GuardOfFolder } from '../guards/guard-folder.ts'
import type { ModelDevice } from '../runtime/device.ts'
import type { VerdictPlace } from './folded-guard.ts'
import type { MemoryPlan } from './memory.ts'
import type { Startup } from './startup.ts'
import type { WeightFormats } from './weights.ts'

/** What the model's files say of its texts. */
export type Described = Pick<ModelInfo, 'toolFormat' | 'tokenizer'>

interface Facts extends Described {
  readonly options: EngineOptions
  readonly checkpoint: Checkpoint
}

interface Formats extends WeightFormats, Pick<VerdictPlace, 'sites'> {
  readonly guard: GuardOfFolder | null
}

export function describeModel(
  { options, checkpoint, toolFormat, tokenizer }: Facts,
  device: ModelDevice,
  { weights, kernels, target, sites, guard }: Formats,
  { limits, bytes }: MemoryPlan,
  startup: Startup,
): ModelInfo {
  const { config, generation, numParameters, created } = checkpoint
  return {
    id: options.servedModelName,
    architecture: config.architecture,
    vocabSize: config.vocabSize,
    maxContext: limits.maxCapacity,
    modelContext: config.maxPosition,
    numParameters,
    weights,
    device: device.name,
    kernels,
    kvCacheDtype: floatNames[target.cacheFloats],
    maxBatch: options.maxBatch,
    adapterModules: sites,
    merged: options.merged,
    kvCapacityTokens: limits.maxPositions,
    toolFormat,
    tokenizer,
    defaults: generation.sampling,
    guard: guard?.guard.info ?? null,
    ...{ capabilities: ownCapabilities, startup, created, bytes },
  }
}
