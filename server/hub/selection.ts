// What of a repository a server needs: configuration, tokenizer, template and safetensors. Never
// pickles, never code, never the same weights in another format.

import { z } from 'zod'
import { ServerError } from '../errors.ts'
import type { RepoFile } from './repo.ts'

export const configName = 'config.json'
export const weightsName = 'model.safetensors'
export const indexName = 'model.safetensors.index.json'

const needed = [configName, 'tokenizer.json']
const useful = [
  'generation_config.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'chat_template.json',
]

export interface Selection {
  /** Small, and to be had before the weights. */
  readonly descriptions: readonly RepoFile[]
  readonly weights:
    | { readonly kind: 'single'; readonly file: RepoFile }
    | { readonly kind: 'sharded'; readonly index: RepoFile }
}

/** Throws ServerError when the repository is no checkpoint that this server reads. */
export function selectFiles(files: readonly RepoFile[], repo: string): Selection {
  const find = (name: string) => files.find((file) => file.name === name)
  for (const name of needed) {
    if (find(name)) continue
    throw new ServerError(
      'unsupported_checkpoint',
      `--model ${repo} has no ${name}: it is no checkpoint in the format of transformers`,
    )
  }
  const descriptions = [...needed, ...useful].map(find).filter((file) => file !== undefined)
  // As the loader chooses: one file wins over an index beside it.
  const file = find(weightsName)
  if (file) return { descriptions, weights: { kind: 'single', file } }
  const index = find(indexName)
  if (index) return { descriptions, weights: { kind: 'sharded', index } }
  const pickle = files.find(({ name }) => /\.(bin|pt|pth|ckpt)$/.test(name))
  const hint = pickle
    ? `${pickle.name} is a pickle and is never loaded: convert it to safetensors`
    : 'choose a repository that holds the weights as safetensors'
  throw new ServerError(
    'unsupported_checkpoint',
    `--model ${repo} has neither ${weightsName} nor ${indexName}; ${hint}`,
  )
}

// Shards lie beside their index: a plain name, no path.
const shardName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors$/)
const indexSchema = z.looseObject({ weight_map: z.record(z.string(), shardName) })

/** The names of the shards in an index's text, each once. Throws ServerError. */
export function parseShardNames(text: string): readonly string[] {
  const result = indexSchema.safeParse(parseJson(text))
  const names = new Set(Object.values(result.data?.weight_map ?? {}))
  if (names.size > 0) return [...names].sort()
  throw new ServerError(
    'invalid_checkpoint',
    `${indexName} must be JSON whose weight_map names .safetensors files beside it`,
  )
}

export function findShards(files: readonly RepoFile[], names: readonly string[]) {
  return names.map((name) => {
    const file = files.find((candidate) => candidate.name === name)
    if (file) return file
    throw new ServerError(
      'invalid_checkpoint',
      `${indexName} names ${name}, which the repository lacks`,
    )
  })
}

/** Undefined for what is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
