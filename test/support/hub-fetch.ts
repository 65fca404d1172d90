// fetchCheckpoint as tests use it: into a folder of their own, without real waiting.

import { join } from 'node:path'
import { type FetchOptions, fetchCheckpoint } from '../../server/hub/checkpoint.ts'
import { parseHubId } from '../../server/hub/hub-id.ts'
import type { RepoContent } from './hub.ts'
import { createRandomNumbers, pick } from './random-numbers.ts'
import { createTempFolder } from './temp-folder.ts'

export interface Fetching extends Partial<Omit<FetchOptions, 'id' | 'settings'>> {
  readonly url: string
  readonly id?: string
  readonly token?: string | null
  readonly cacheDir?: string
  readonly isOffline?: boolean
}

export interface Fetched {
  readonly cacheDir: string
  /** What came out: the folder, or the error. */
  readonly folder: string | undefined
  readonly error: unknown
  readonly waits: readonly number[]
  readonly progress: readonly (readonly [what: string, done: number, total: number])[]
  /** Each line as JSON. */
  readonly log: readonly string[]
}

const root = createTempFolder()
let count = 0

export const newCacheDir = (): string => join(root, `cache-${count++}`)

export async function fetchFrom(fetching: Fetching): Promise<Fetched> {
  const { url, id = 'org/tiny', token = null, isOffline = false, ...rest } = fetching
  const cacheDir = fetching.cacheDir ?? newCacheDir()
  const waits: number[] = []
  const progress: [string, number, number][] = []
  const log: string[] = []
  const write = (fields: object, message: string) =>
    void log.push(JSON.stringify({ ...fields, message }))
  const result = await fetchCheckpoint({
    id: parseHubId(id)!,
    settings: { endpoint: url, token, cacheDir, isOffline },
    logger: { debug: write, info: write, warn: write, error: write },
    signal: new AbortController().signal,
    checkConfig: () => {},
    onProgress: (...report) => void progress.push(report),
    wait: async (ms) => void waits.push(ms),
    ...rest,
  }).then(
    (folder) => ({ folder, error: undefined }),
    (error: unknown) => ({ folder: undefined, error }),
  )
  return { cacheDir, ...result, waits, progress, log }
}

const random = createRandomNumbers(7)
export const randomBytes = (size: number): Buffer =>
  Buffer.from(Array.from({ length: size }, () => pick(random, 256)))

/** Large enough to come in several pieces. */
export const weights = randomBytes(300_000)

export const smallRepo: RepoContent = {
  '.gitattributes': '*.safetensors filter=lfs',
  'README.md': '# tiny',
  'config.json': '{"model_type": "qwen2"}',
  'tokenizer.json': '{"version": "1.0"}',
  'chat_template.jinja': '{{ messages }}',
  'modeling_tiny.py': 'import os',
  'pytorch_model.bin': randomBytes(100),
  'model.safetensors': weights,
}

export const shardedRepo: RepoContent = {
  'config.json': '{"model_type": "qwen2"}',
  'tokenizer.json': '{"version": "1.0"}',
  'model.safetensors.index.json': JSON.stringify({
    metadata: {},
    weight_map: {
      a: 'model-00001-of-00002.safetensors',
      b: 'model-00002-of-00002.safetensors',
      c: 'model-00001-of-00002.safetensors',
    },
  }),
  'model-00001-of-00002.safetensors': randomBytes(5000),
  'model-00002-of-00002.safetensors': randomBytes(3000),
  'other.safetensors': randomBytes(10),
}
