// Hugging Face's own cache of one model, shared with its tools: what they downloaded is used here, and
// the other way round.
//
//   models--org--name/blobs/<digest>                 the bytes, once, under their hash
//   models--org--name/snapshots/<commit>/<file>      links to them
//   models--org--name/refs/<branch or tag>           the commit that it was when last looked at

import { createHash, randomUUID } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { readFile, rename, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { getRepoFolderName } from '@huggingface/hub'
import { makeFolder } from '../checkpoint/make-folder.ts'
import { indexName, weightsName } from '../checkpoint/weight-index.ts'
import { findGguf } from './gguf-selection.ts'
import { type HubId, isCommit } from './hub-id.ts'
import type { RepoFile } from './repo.ts'
import { configName, parseShardNames, wantsGguf } from './selection.ts'

export interface CachedCheckpoint {
  readonly commit: string
  /** The snapshot's folder, or a GGUF file in it. */
  readonly path: string
}

export type HubCache = ReturnType<typeof createHubCache>

export function createHubCache(cacheDir: string, repo: string) {
  const folder = join(cacheDir, getRepoFolderName({ type: 'model', name: repo }))
  const refPath = (revision: string) => join(folder, 'refs', revision)
  const snapshotPath = (commit: string) => join(folder, 'snapshots', commit)

  function blobPath(commit: string, { name, digest }: RepoFile): string {
    // Without a digest only the commit makes sure that the content is the same.
    const unnamed = () => createHash('sha256').update(`${commit}/${name}`).digest('hex')
    return join(folder, 'blobs', digest.kind === 'none' ? unnamed() : digest.hex)
  }

  return {
    snapshotPath,
    blobPath,

    /** Is the file there, whole? Its bytes were checked when they came. */
    has: async (commit: string, file: RepoFile): Promise<boolean> =>
      (await sizeOf(join(snapshotPath(commit), file.name))) === file.size,

    /** Makes the blob appear in the snapshot, at once or not at all. */
    async link(commit: string, file: RepoFile): Promise<void> {
      const blob = blobPath(commit, file)
      const path = join(snapshotPath(commit), file.name)
      makeFolder(dirname(path))
      const fresh = `${path}.${randomUUID()}`
      try {
        await symlink(relative(dirname(path), blob), fresh)
        await rename(fresh, path)
      } catch (error) {
        // Windows without the right to make links: the file itself moves there.
        if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error
        await rename(blob, path)
      }
    },

    async writeRef(revision: string, commit: string): Promise<void> {
      if (isCommit(revision)) return
      makeFolder(dirname(refPath(revision)))
      await writeFile(refPath(revision), commit)
    },

    /** A revision's checkpoint that is cached, and complete as far as offline checks go. */
    async findComplete({ revision, gguf }: HubId): Promise<CachedCheckpoint | undefined> {
      const ref = isCommit(revision) ? revision : await readIfThere(refPath(revision))
      const commit = ref?.trim()
      if (commit === undefined || !isCommit(commit)) return undefined
      const snapshot = snapshotPath(commit)
      const here = existsSync(snapshot) ? readdirSync(snapshot) : []
      if (wantsGguf(here, gguf)) {
        const files = findGguf(here, gguf)
        return files && { commit, path: join(snapshot, files[0]!) }
      }
      const names = [configName, 'tokenizer.json', ...(await weightNames(snapshot))]
      const sizes = await Promise.all(names.map((name) => sizeOf(join(snapshot, name))))
      return sizes.includes(undefined) ? undefined : { commit, path: snapshot }
    },
  }
}

async function weightNames(snapshot: string): Promise<readonly string[]> {
  if ((await sizeOf(join(snapshot, weightsName))) !== undefined) return [weightsName]
  const index = await readIfThere(join(snapshot, indexName))
  return index === undefined ? [weightsName] : parseShardNames(index)
}

export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
