// What a checkpoint is, for who computes nothing with it: its configuration and defaults, and its weights
// where they are there.

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { GenerationDefaults, ModelConfig } from '../contracts/checkpoint.ts'
import { isGgufPath } from '../contracts/model-path.ts'
import { type Checkpoint, openCheckpoint } from './checkpoint.ts'
import { parseModelConfig } from './checkpoint-config.ts'
import { parseGenerationDefaults } from './generation-defaults.ts'
import { readJson } from './json.ts'
import { indexName, weightsName } from './weight-index.ts'

export interface Description {
  readonly config: ModelConfig
  readonly generation: GenerationDefaults
  /** null: only what describes them is there. */
  readonly weights: Checkpoint | null
  /** 0 without weights. */
  readonly numParameters: number
  /** Seconds since the epoch. */
  readonly created: number
}

/** A folder, with or without weights, or a .gguf file. Throws ServerError. */
export function openDescription(path: string): Description {
  const hasWeights =
    isGgufPath(path) || [weightsName, indexName].some((name) => existsSync(join(path, name)))
  if (hasWeights) {
    const weights = openCheckpoint(path)
    const { config, generation, numParameters, created } = weights
    return { config, generation, weights, numParameters, created }
  }
  const configPath = join(path, 'config.json')
  const generationPath = join(path, 'generation_config.json')
  const configJson = readJson(configPath)
  const generationJson = existsSync(generationPath) ? readJson(generationPath) : null
  return {
    config: parseModelConfig(configJson),
    generation: parseGenerationDefaults(generationJson, configJson),
    weights: null,
    numParameters: 0,
    created: Math.floor(statSync(configPath).mtimeMs / 1000),
  }
}
