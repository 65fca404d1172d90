// The base as adapters know it: the hashes of the files that its weights are made from, and the one
// digest of them that a manifest names.

import { basename } from 'node:path'
import { baseDigestOf } from '../checkpoint/base-digest.ts'
import type { Checkpoint } from '../checkpoint/checkpoint.ts'
import { attestedDigest } from '../checkpoint/gguf-note.ts'
import { explainDiskError, makeCacheFolder } from './cache-disk.ts'
import { type HashedFile, knownHashes, type OnProgress } from './file-hashes.ts'

export interface Base {
  readonly sources: readonly HashedFile[]
  /** Of the weights, or of the GGUF file that they were exported from. */
  readonly digest: string
}

interface BaseOptions {
  readonly dir: string
  readonly checkpoint: Checkpoint
  /** Remembers the hashes: asked again, they cost nothing. */
  readonly cacheDir: string
  readonly onProgress?: OnProgress
  readonly onNotice?: (message: string) => void
}

/** Throws ServerError where the cache folder cannot be used. */
export async function readBase(options: BaseOptions): Promise<Base> {
  try {
    makeCacheFolder(options.cacheDir)
    return await hashBase(options)
  } catch (error) {
    throw explainDiskError(error, options.cacheDir, 0)
  }
}

/** The same where the cache folder is there; errors of the disk stay as they are. */
export async function hashBase(options: BaseOptions): Promise<Base> {
  const { dir, checkpoint, cacheDir, onProgress = () => {}, onNotice = () => {} } = options
  const sources = await knownHashes(weightPaths(checkpoint), { cacheDir, onProgress })
  const names = sources.map(({ path, sha256 }) => ({ name: basename(path), sha256 }))
  return { sources, digest: attestedDigest(dir, baseDigestOf(names), onNotice) }
}

/** The files that the weights are made from; which tensor is in which shard says the index. */
function weightPaths({ files }: Checkpoint): string[] {
  return files.map(({ path }) => path).filter((path) => basename(path) !== 'generation_config.json')
}
