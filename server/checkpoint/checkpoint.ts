// A Hugging Face checkpoint folder: its configuration, its generation defaults and its weights,
// which are checked against the configuration by name and shape before any of them is read.

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { GenerationDefaults, ModelConfig, TensorSource } from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'
import { parseModelConfig } from './checkpoint-config.ts'
import { checkTensors } from './checkpoint-tensors.ts'
import { parseGenerationDefaults } from './generation-defaults.ts'
import { readJson } from './json.ts'
import { openSafetensors, type SafetensorsFile } from './safetensors.ts'
import { indexName, readWeightMap, weightsName } from './weight-index.ts'

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

const code = 'invalid_checkpoint'

export function openCheckpoint(dir: string): Checkpoint {
  if (!existsSync(join(dir, 'config.json'))) {
    throw new ServerError(code, `There is no checkpoint at ${dir}: config.json is missing.`)
  }
  const configJson = readJson(join(dir, 'config.json'))
  const generationPath = join(dir, 'generation_config.json')
  const generationJson = existsSync(generationPath) ? readJson(generationPath) : null
  const config = parseModelConfig(configJson)
  const generation = parseGenerationDefaults(generationJson, configJson)

  const weights = openWeights(dir)

  function close() {
    for (const file of new Set(weights.files.values())) file.close()
  }

  try {
    const shape = (name: string) => requireTensor(weights, name).tensors.get(name)!.shape
    const numParameters = checkTensors(config, weights.infos())
    const used = [join(dir, 'config.json'), ...weights.paths]
    if (generationJson !== null) used.push(generationPath)
    const files = used.map(describeFile)
    return {
      config,
      generation,
      tensors: {
        has: (name) => weights.files.has(name),
        shape,
        read: (name) => requireTensor(weights, name).readFloat32(name),
        readRows: (name, first, count) =>
          requireTensor(weights, name).readFloat32Rows(name, first, count),
      },
      numParameters,
      created: Math.floor(Math.max(...files.map((file) => file.mtimeMs)) / 1000),
      files,
      close,
    }
  } catch (error) {
    close()
    throw error
  }
}

interface WeightFiles {
  /** Tensor name → the file that holds it. */
  readonly files: ReadonlyMap<string, SafetensorsFile>
  readonly paths: readonly string[]
  infos(): Map<string, { readonly dtype: string; readonly shape: readonly number[] }>
}

function openWeights(dir: string): WeightFiles {
  const single = join(dir, weightsName)
  if (existsSync(single)) {
    const file = openSafetensors(single, { code })
    return toWeights(new Map([...file.tensors.keys()].map((name) => [name, file])), [single])
  }
  if (existsSync(join(dir, indexName))) return openShards(dir)
  const missing = `There is neither ${weightsName} nor ${indexName}.`
  if (!existsSync(join(dir, 'pytorch_model.bin'))) throw new ServerError(code, missing)
  throw new ServerError(
    'unsupported_checkpoint',
    `${missing} pytorch_model.bin is a pickle and is never read: convert it to safetensors.`,
  )
}

function openShards(dir: string): WeightFiles {
  const weightMap = readWeightMap(readJson(join(dir, indexName)))
  const shards = new Map<string, SafetensorsFile>()
  try {
    const files = new Map<string, SafetensorsFile>()
    for (const [name, shard] of weightMap) {
      if (!shards.has(shard)) shards.set(shard, openShard(dir, shard))
      const file = shards.get(shard)!
      if (!file.tensors.has(name)) {
        throw new ServerError(code, `${indexName}: ${shard} does not hold ${JSON.stringify(name)}.`)
      }
      files.set(name, file)
    }
    const paths = [join(dir, indexName), ...[...shards.keys()].map((shard) => join(dir, shard))]
    return toWeights(files, paths)
  } catch (error) {
    for (const file of shards.values()) file.close()
    throw error
  }
}

function openShard(dir: string, shard: string): SafetensorsFile {
  const path = join(dir, shard)
  if (!existsSync(path)) throw new ServerError(code, `${indexName} names ${shard}: it is missing.`)
  return openSafetensors(path, { code })
}

function toWeights(
  files: ReadonlyMap<string, SafetensorsFile>,
  paths: readonly string[],
): WeightFiles {
  return {
    files,
    paths,
    infos: () => new Map([...files].map(([name, file]) => [name, file.tensors.get(name)!])),
  }
}

function requireTensor(weights: WeightFiles, name: string): SafetensorsFile {
  const file = weights.files.get(name)
  if (!file) throw new ServerError(code, `The checkpoint has no tensor ${JSON.stringify(name)}.`)
  return file
}

function describeFile(path: string): CheckpointFile {
  const { size, mtimeMs } = statSync(path)
  return { path, size, mtimeMs }
}
