// How a checkpoint names its weights: one file, or shards and an index that says which shard holds
// which tensor.

import { isObject } from '../contracts/json.ts'
import { quoteName } from '../contracts/printable.ts'
import { ServerError } from '../errors.ts'

export const weightsName = 'model.safetensors'
export const indexName = 'model.safetensors.index.json'

// Shards lie beside their index: a plain name, no path.
const shardName = /^[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors$/

/** Tensor name → the shard that holds it. Takes the index's JSON; throws ServerError. */
export function readWeightMap(index: unknown): ReadonlyMap<string, string> {
  const map = isObject(index) ? index.weight_map : undefined
  const entries = isObject(map) ? Object.entries(map) : []
  if (entries.length === 0) invalid('weight_map is missing')
  for (const [name, shard] of entries) {
    if (typeof shard === 'string' && shardName.test(shard)) continue
    invalid(`${quoteName(name)} must name a .safetensors file beside the index`)
  }
  return new Map(entries as [string, string][])
}

function invalid(message: string): never {
  throw new ServerError('invalid_checkpoint', `${indexName}: ${message}.`)
}
