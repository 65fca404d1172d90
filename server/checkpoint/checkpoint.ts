// A checkpoint: a Hugging Face folder or a GGUF file. Its configuration, its generation defaults and its
// weights, which are checked against the configuration by name and shape before any of them is read.

import { existsSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { GenerationDefaults, ModelConfig, TensorSource } from '../contracts/checkpoint.ts'
import { isGgufPath } from '../contracts/model-path.ts'
import { ServerError } from '../errors.ts'
import { parseModelConfig } from './checkpoint-config.ts'
import { checkTensors } from './checkpoint-tensors.ts'
import { parseGenerationDefaults } from './generation-defaults.ts'
import { openGgufCheckpoint } from './gguf-checkpoint.ts'
import { readJson } from './json.ts'
import { openSafetensorsWeights } from './safetensors-weights.ts'
import type { Weights } from './weights.ts'

interface CheckpointFile {
  readonly path: string
  readonly size: number
  readonly mtimeMs: number
}

export interface Checkpoint {
  readonly config: ModelConfig
  readonly generation: GenerationDefaults
  readonly tensors: TensorSource
  /** Elements of all the weights that the graph uses. */
  readonly numParameters: number
  /** Seconds since the epoch at which the newest of the files was written. */
  readonly created: number
  /** The files that the checkpoint was read from; a cached graph is stale once one of them changed. */
  readonly files: readonly CheckpointFile[]
  close(): void
}

/** A folder or a .gguf file. */
export function openCheckpoint(path: string): Checkpoint {
  return isGgufPath(path) ? openFile(path) : openFolder(path)
}

function openFolder(dir: string): Checkpoint {
  const configPath = join(dir, 'config.json')
  if (!existsSync(configPath)) {
    throw new ServerError(
      'invalid_checkpoint',
      `There is no checkpoint at ${dir}: config.json is missing.`,
    )
  }
  const configJson = readJson(configPath)
  const generationPath = join(dir, 'generation_config.json')
  const generationJson = existsSync(generationPath) ? readJson(generationPath) : null
  const config = parseModelConfig(configJson)
  const generation = parseGenerationDefaults(generationJson, configJson)
  const weights = openSafetensorsWeights(dir)
  const used = [configPath, ...weights.paths]
  if (generationJson !== null) used.push(generationPath)
  return toCheckpoint(config, generation, weights, used)
}

function openFile(path: string): Checkpoint {
  const { configJson, generationJson, weights } = openGgufCheckpoint(path)
  let config: ModelConfig
  let generation: GenerationDefaults
  try {
    config = parseModelConfig(configJson)
    generation = parseGenerationDefaults(generationJson, configJson)
  } catch (error) {
    weights.close()
    if (!(error instanceof ServerError)) throw error
    // They were made of the metadata, and errors name their fields.
    throw new ServerError(error.code, `${basename(path)}, read as ${error.message}`, {
      cause: error,
    })
  }
  return toCheckpoint(config, generation, weights, weights.paths)
}

function toCheckpoint(
  config: ModelConfig,
  generation: GenerationDefaults,
  weights: Weights,
  paths: readonly string[],
): Checkpoint {
  try {
    const numParameters = checkTensors(config, weights.stored)
    const files = paths.map(describeFile)
    return {
      config,
      generation,
      tensors: weights.tensors,
      numParameters,
      created: Math.floor(Math.max(...files.map((file) => file.mtimeMs)) / 1000),
      files,
      close: weights.close,
    }
  } catch (error) {
    weights.close()
    throw error
  }
}

function describeFile(path: string): CheckpointFile {
  const { size, mtimeMs } = statSync(path)
  return { path, size, mtimeMs }
}
