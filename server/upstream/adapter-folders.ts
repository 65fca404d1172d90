// Folders that both sides see. Each is written once, whole, and comes to its name by a rename; a name always
// means the same bytes. None is ever changed or deleted here: vLLM reads a folder again when it has evicted
// the adapter, and its engine ends where the folder is gone.
//
//   <dir>/<name>/adapter_config.json, adapter_model.safetensors, content.json (what it holds; last)
//   <dir>/.incoming-<random>/       being written

import { createHash, randomUUID } from 'node:crypto'
import { createReadStream, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { access, constants, mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { writeSafetensors } from '../checkpoint/safetensors-writer.ts'
import { adapterFiles } from '../contracts/adapter.ts'
import { syncToDisk } from '../durable.ts'
import { ServerError } from '../errors.ts'
import {
  type AdapterSet,
  configOfSet,
  keyOfSet,
  type MatrixPair,
  nameOfSet,
  pairsOfSet,
  rankOfSet,
  tensorNameOf,
} from './adapter-content.ts'

const contentFile = 'content.json'
const contentSchema = z.object({ key: z.string(), config: z.string(), tensors: z.string() })
type Content = z.infer<typeof contentSchema>

export interface AdapterFolders {
  /** Path of the set's folder, which is there and whole. Rejects with ServerError. */
  pathOf(set: AdapterSet): Promise<string>
  /** The same of one pair of a check; the name means its content. */
  pathOfPair(name: string, pair: () => MatrixPair): Promise<string>
}

interface Described {
  readonly key: string
  readonly rank: number
  readonly pairs: () => readonly MatrixPair[]
}

export function createAdapterFolders(dir: string): AdapterFolders {
  /** Checked or written by this process. */
  const known = new Map<string, Promise<string>>()

  async function make(name: string, described: Described): Promise<string> {
    const path = join(dir, name)
    if (existsSync(path)) {
      await checkFolder(path, described.key)
      return path
    }
    const staged = join(dir, `.incoming-${randomUUID()}`)
    try {
      await writeFolder(staged, described)
      await rename(staged, path)
      await syncToDisk(dir)
    } catch (error) {
      await rm(staged, { recursive: true, force: true })
      // Another front was first.
      if (existsSync(path)) await checkFolder(path, described.key)
      else throw explain(error)
    }
    return path
  }

  function find(name: string, described: Described): Promise<string> {
    const path = known.get(name) ?? make(name, described)
    known.set(name, path)
    path.catch(() => known.delete(name))
    return path
  }

  return {
    async pathOf(set) {
      const name = nameOfSet(set)
      if (name === null) throw new Error('the base has no folder')
      const rank = rankOfSet(set)
      return find(name, { key: keyOfSet(set), rank, pairs: () => pairsOfSet(set) })
    },
    pathOfPair: (name, pair) => find(name, { key: name, rank: 1, pairs: () => [pair()] }),
  }
}

/** The folder is there and can be written into. Throws ServerError. */
export async function openAdaptersDir(dir: string): Promise<void> {
  try {
    await mkdir(dir, { recursive: true })
    await access(dir, constants.W_OK)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new ServerError(
      'invalid_config',
      `--upstream-adapters cannot be written (${code}): give a folder that this server may write ` +
        'and every upstream may read, at the same path.',
    )
  }
}

async function writeFolder(path: string, { key, rank, ...described }: Described): Promise<void> {
  mkdirSync(path)
  const pairs = described.pairs()
  const config = `${JSON.stringify(configOfSet(rank, pairs), null, 2)}\n`
  const tensors = pairs.flatMap((pair) => [
    tensor(pair, 'A', [rank, pair.a.length / rank]),
    tensor(pair, 'B', [pair.b.length / rank, rank]),
  ])
  const format = { dtype: 'F32', bytes: 4 } as const
  const sha256 = writeSafetensors(join(path, adapterFiles.tensors), tensors, format)
  writeFileSync(join(path, adapterFiles.config), config)
  const content: Content = { key, config: hashOf(config), tensors: sha256 }
  writeFileSync(join(path, contentFile), `${JSON.stringify(content)}\n`)
  for (const name of [adapterFiles.config, contentFile]) await syncToDisk(join(path, name))
  await syncToDisk(path)
}

function tensor(pair: MatrixPair, side: 'A' | 'B', shape: readonly number[]) {
  const values = side === 'A' ? pair.a : pair.b
  const pieces = () => [new Uint8Array(values.buffer, values.byteOffset, values.byteLength)]
  return { name: tensorNameOf(pair, side), shape, pieces }
}

/** Of an earlier run, or of another front: the very bytes, or it is not used. */
async function checkFolder(path: string, key: string): Promise<void> {
  try {
    const content = contentSchema.parse(JSON.parse(readFileSync(join(path, contentFile), 'utf8')))
    const config = hashOf(readFileSync(join(path, adapterFiles.config), 'utf8'))
    const tensors = await hashFile(join(path, adapterFiles.tensors))
    if (content.key === key && content.config === config && content.tensors === tensors) return
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES') throw explain(error)
  }
  throw new ServerError(
    'adapter_unavailable',
    'The folder of this adapter in --upstream-adapters was changed by somebody: with all upstreams ' +
      'stopped, delete it; it is written anew.',
  )
}

const hashOf = (text: string) => createHash('sha256').update(text).digest('hex')

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const part of createReadStream(path)) hash.update(part)
  return hash.digest('hex')
}

function explain(error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException
  if (error instanceof ServerError || code === undefined) return error
  const isFull = code === 'ENOSPC' || code === 'EDQUOT'
  return new ServerError(
    isFull ? 'storage_full' : 'storage_unavailable',
    `The folder of --upstream-adapters cannot be written now (${code}).`,
    { cause: error },
  )
}
