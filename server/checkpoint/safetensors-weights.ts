// The weights of a checkpoint folder: one safetensors file, or shards and their index.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ServerError } from '../errors.ts'
import { readJson } from './json.ts'
import { openSafetensors, type SafetensorsFile } from './safetensors.ts'
import { indexName, readWeightMap, weightsName } from './weight-index.ts'
import type { Weights } from './weights.ts'

const code = 'invalid_checkpoint'

export function openSafetensorsWeights(dir: string): Weights {
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

function openShards(dir: string): Weights {
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

/** `files`: tensor name → the file that holds it. */
function toWeights(files: ReadonlyMap<string, SafetensorsFile>, paths: readonly string[]): Weights {
  function requireFile(name: string): SafetensorsFile {
    const file = files.get(name)
    if (!file) throw new ServerError(code, `The checkpoint has no tensor ${JSON.stringify(name)}.`)
    return file
  }

  return {
    paths,
    stored: new Map([...files].map(([name, file]) => [name, file.tensors.get(name)!])),
    tensors: {
      has: (name) => files.has(name),
      shape: (name) => requireFile(name).tensors.get(name)!.shape,
      read: (name) => requireFile(name).readFloat32(name),
      readRows: (name, first, count) => requireFile(name).readFloat32Rows(name, first, count),
    },
    close() {
      for (const file of new Set(files.values())) file.close()
    },
  }
}
