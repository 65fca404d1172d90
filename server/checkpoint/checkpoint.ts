// A Hugging Face checkpoint folder: its configuration, its generation defaults and its weights,
// which are checked against the configuration by name and shape before any of them is read.

import { existsSync, readFileSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { GenerationDefaults, ModelConfig, TensorSource } from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'
import { parseGenerationDefaults, parseModelConfig } from './checkpoint-config.ts'
import { checkTensors } from './checkpoint-tensors.ts'
import { openSafetensors, type SafetensorsFile } from './safetensors.ts'

export interface CheckpointFile {
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
  /** What the checkpoint was read from: enough to tell whether a cached graph is still right. */
  readonly files: readonly CheckpointFile[]
  close(): void
}

const code = 'invalid_checkpoint'
const indexName = 'model.safetensors.index.json'
// Shards lie beside their index: a plain name, no path.
const shardName = /^[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors$/

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
  const single = join(dir, 'model.safetensors')
  if (existsSync(single)) {
    const file = openSafetensors(single, { code })
    return toWeights(new Map([...file.tensors.keys()].map((name) => [name, file])), [single])
  }
  if (existsSync(join(dir, indexName))) return openShards(dir)
  const hint = existsSync(join(dir, 'pytorch_model.bin'))
    ? ' pytorch_model.bin is a pickle and is never read: convert it to safetensors.'
    : ''
  throw new ServerError(code, `There is neither model.safetensors nor ${indexName}.${hint}`)
}

function openShards(dir: string): WeightFiles {
  const weightMap = readWeightMap(join(dir, indexName))
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

function readWeightMap(path: string): Map<string, string> {
  const index = readJson(path)
  const map = isObject(index) ? index.weight_map : undefined
  if (!isObject(map)) throw new ServerError(code, `${indexName}: weight_map is missing.`)
  const entries = Object.entries(map)
  for (const [name, shard] of entries) {
    if (typeof shard !== 'string' || !shardName.test(shard)) {
      throw new ServerError(
        code,
        `${indexName}: ${JSON.stringify(name)} must name a .safetensors file beside the index.`,
      )
    }
  }
  return new Map(entries as [string, string][])
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

/** Reads one of the checkpoint's own JSON files. */
export function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    const why = error instanceof SyntaxError ? 'it is not JSON' : 'it cannot be read'
    throw new ServerError(code, `${basename(path)}: ${why}.`, { cause: error })
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
