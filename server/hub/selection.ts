// What of a repository a server needs: configuration, tokenizer, template and safetensors. Never
// pickles, never code, never the same weights in another format.

import { indexName, readWeightMap, weightsName } from '../checkpoint/weight-index.ts'
import { ServerError } from '../errors.ts'
import type { RepoFile } from './repo.ts'

export const configName = 'config.json'

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

/** The names of the shards in an index's text, each once. Throws ServerError. */
export function parseShardNames(text: string): readonly string[] {
  const index = parseJson(text)
  if (index !== undefined) return [...new Set(readWeightMap(index).values())].sort()
  throw new ServerError('invalid_checkpoint', `${indexName} must be JSON; what came is not`)
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
