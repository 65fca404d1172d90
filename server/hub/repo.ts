// A model on the hub, from its API: which commit a revision is, and what lies in that commit.

import { listFiles, modelInfo } from '@huggingface/hub'
import { z } from 'zod'
import { ServerError } from '../errors.ts'
import { findFailure } from './failure.ts'
import type { HubFetch } from './hub-fetch.ts'
import type { HubId } from './hub-id.ts'

/** What a file's bytes must hash to. Git hashes small files itself and leaves large ones to LFS. */
type Digest =
  | { readonly kind: 'sha256'; readonly hex: string }
  | { readonly kind: 'git-blob'; readonly hex: string }
  /** The hub does not say. */
  | { readonly kind: 'none' }

export interface RepoFile {
  readonly name: string
  readonly size: number
  readonly digest: Digest
}

export interface Hub {
  readonly endpoint: string
  readonly fetch: HubFetch
}

// They become names of folders and files.
const commitSchema = z.object({ sha: z.string().regex(/^[0-9a-f]{40}$/) })
const fileSchema = z.object({
  path: z.string(),
  size: z.int().nonnegative(),
  oid: z
    .string()
    .regex(/^[0-9a-f]{40}$/)
    .nullish(),
  lfs: z.object({ oid: z.string().regex(/^[0-9a-f]{64}$/), size: z.int() }).nullish(),
})

/** An answer that does not come whole in this time is asked for again. */
const answerMs = 30_000

function params({ endpoint, fetch }: Hub) {
  return {
    hubUrl: endpoint,
    fetch: ((input, init) =>
      fetch(input, { ...init, signal: AbortSignal.timeout(answerMs) })) as HubFetch,
  }
}

/** The commit that a branch, a tag or a shortened commit is now. */
export function resolveCommit(hub: Hub, { repo, revision }: HubId): Promise<string> {
  return understand(hub, async () => {
    const info = await modelInfo({
      ...params(hub),
      name: repo,
      revision,
      additionalFields: ['sha'],
    })
    return commitSchema.parse(info).sha
  })
}

/** The files at the top of the commit; checkpoints have theirs there. */
export function listRepoFiles(
  hub: Hub,
  repo: string,
  commit: string,
): Promise<readonly RepoFile[]> {
  return understand(hub, async () => {
    const files: RepoFile[] = []
    for await (const entry of listFiles({ ...params(hub), repo, revision: commit })) {
      if (entry.type !== 'file' || entry.path.includes('/')) continue
      const { path, size, oid, lfs } = fileSchema.parse(entry)
      files.push({ name: path, size: lfs?.size ?? size, digest: toDigest(lfs?.oid, oid) })
    }
    return files
  })
}

function toDigest(sha256: string | undefined, oid: string | null | undefined): Digest {
  if (sha256) return { kind: 'sha256', hex: sha256 }
  return oid ? { kind: 'git-blob', hex: oid } : { kind: 'none' }
}

/** Plain HTTP, also where the hub stores chunks (Xet): its resolve route serves ranges of every file. */
export function fileUrl({ endpoint }: Hub, repo: string, commit: string, name: string): string {
  return `${endpoint}/${repo}/resolve/${commit}/${encodeURIComponent(name)}`
}

/** A page of a proxy, or another service at this address, is no bug of ours. */
async function understand<T>({ endpoint }: Hub, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask()
  } catch (error) {
    const kinds = [SyntaxError, TypeError, z.ZodError]
    if (findFailure(error) || !kinds.some((kind) => error instanceof kind)) throw error
    throw new ServerError(
      'hub_unavailable',
      `${new URL(endpoint).host} does not answer as a Hugging Face hub does; check HF_ENDPOINT`,
      { cause: error },
    )
  }
}
