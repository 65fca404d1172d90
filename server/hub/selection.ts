// What of a repository a server needs: configuration, tokenizer, template and safetensors, or one GGUF
// file. Never pickles, never code, never the same weights in another format.

import { indexName, readWeightMap, weightsName } from '../checkpoint/weight-index.ts'
import { ServerError } from '../errors.ts'
import { chooseGguf, type GgufChoice, hasGguf } from './gguf-selection.ts'
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
    /** One file, or its parts in order; they hold everything. */
    | { readonly kind: 'gguf'; readonly files: readonly RepoFile[] }
}

/** Throws ServerError when the repository is no checkpoint that this server reads. */
export function selectFiles(
  files: readonly RepoFile[],
  repo: string,
  choice: GgufChoice | null,
): Selection {
  const find = (name: string) => files.find((file) => file.name === name)
  const names = files.map(({ name }) => name)
  if (wantsGguf(names, choice)) {
    const chosen = chooseGguf(names, choice, repo).map((name) => find(name)!)
    return { descriptions: [], weights: { kind: 'gguf', files: chosen } }
  }
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

/** A GGUF file is named, or is what there is. */
export function wantsGguf(names: readonly string[], choice: GgufChoice | null): boolean {
  if (choice !== null) return true
  const hasSafetensors = names.includes(weightsName) || names.includes(indexName)
  return !(hasSafetensors && names.includes(configName)) && hasGguf(names)
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
