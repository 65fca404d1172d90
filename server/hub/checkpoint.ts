// A checkpoint from the hub to a folder or a GGUF file that the loader reads. The story in one place: which commit,
// which files, what is missing, and in which order it comes.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freeBytes } from '../checkpoint/disk-space.ts'
import { makeFolder } from '../checkpoint/make-folder.ts'
import { readableBytes } from '../contracts/bytes.ts'
import type { Logger } from '../contracts/logger.ts'
import { ServerError } from '../errors.ts'
import { type CachedCheckpoint, createHubCache, type HubCache, sizeOf } from './cache.ts'
import { downloadFile, halfPath } from './download.ts'
import { type Asked, explain, findFailure } from './failure.ts'
import { createHubFetch } from './hub-fetch.ts'
import type { HubId } from './hub-id.ts'
import { fileUrl, type Hub, listRepoFiles, type RepoFile, resolveCommit } from './repo.ts'
import { createRetry, type Retry } from './retries.ts'
import { configName, findShards, parseJson, parseShardNames, selectFiles } from './selection.ts'
import type { HubSettings } from './settings.ts'

export interface FetchOptions {
  readonly id: HubId
  readonly settings: HubSettings
  readonly logger: Logger
  /** Ends everything; what is half there stays for the next time. */
  readonly signal: AbortSignal
  /** Throws for a config.json that cannot be served, before gigabytes of weights come. */
  readonly checkConfig: (json: unknown) => void
  readonly onProgress: (what: string, done: number, total: number) => void
  readonly wait?: (ms: number) => Promise<unknown>
  readonly freeBytesOf?: (folder: string) => number | null
}

/** What the steps share. */
interface Job extends FetchOptions {
  readonly hub: Hub
  readonly cache: HubCache
  readonly retry: Retry
}

/** The folder of the complete checkpoint, or its GGUF file. Rejects with ServerError. */
export async function fetchCheckpoint(options: FetchOptions): Promise<string> {
  const { id, settings, signal, logger } = options
  const { endpoint, cacheDir } = settings
  const wait = options.wait ?? ((ms: number) => sleep(ms, undefined, { signal }))
  const job: Job = {
    ...options,
    hub: { endpoint, fetch: createHubFetch({ settings, signal }) },
    cache: createHubCache(cacheDir, id.repo),
    retry: createRetry({ wait, signal, logger }),
  }
  const asked: Asked = {
    id,
    subject: `--model ${id.repo}`,
    remedies: {
      missing: 'give org/name[@revision], or a folder that exists',
      unreachable: 'give a folder that exists',
    },
    endpoint,
    cacheDir,
    hasToken: settings.token !== null,
  }
  try {
    const { commit, path } = settings.isOffline
      ? await requireCached(job)
      : await fetchCommit(job, asked)
    logger.info({ model: id.repo, revision: id.revision, commit }, 'the commit that is served')
    return path
  } catch (error) {
    throw explain(error, asked)
  }
}

async function requireCached({ cache, id, settings }: Job): Promise<CachedCheckpoint> {
  const cached = await cache.findComplete(id)
  if (cached !== undefined) return cached
  throw new ServerError(
    'hub_unavailable',
    `--model ${id.repo}: HF_HUB_OFFLINE is set, and revision "${id.revision}" is not complete in ${settings.cacheDir}; start once without it`,
  )
}

async function fetchCommit(job: Job, asked: Asked): Promise<CachedCheckpoint> {
  const { id, hub, cache, retry, logger } = job
  // 1. Which commit, and what lies in it. Once: a branch that moves meanwhile changes nothing.
  let commit: string
  let files: readonly RepoFile[]
  try {
    commit = await retry('revision', () => resolveCommit(hub, id))
    files = await retry('listing', () => listRepoFiles(hub, id.repo, commit))
  } catch (error) {
    // A hub that is down is no reason not to serve what is here. A refusal is an answer.
    const cached = findFailure(error)?.isPassing ? await cache.findComplete(id) : undefined
    if (cached === undefined) throw error
    logger.warn({ error: (explain(error, asked) as Error).message }, 'using the cached checkpoint')
    return cached
  }
  const { descriptions, weights } = selectFiles(files, id.repo, id.gguf)

  // 2. The small files first: an unsupported model is refused before its weights come.
  await fetchFiles(job, commit, descriptions)
  if (weights.kind !== 'gguf') {
    job.checkConfig(parseJson(await readSnapshot(job, commit, configName)))
  }

  // 3. The weights.
  let path = cache.snapshotPath(commit)
  if (weights.kind === 'single') await fetchWeights(job, commit, [weights.file])
  else if (weights.kind === 'gguf') {
    await fetchWeights(job, commit, weights.files)
    path = join(path, weights.files[0]!.name)
  } else {
    await fetchFiles(job, commit, [weights.index])
    const names = parseShardNames(await readSnapshot(job, commit, weights.index.name))
    await fetchWeights(job, commit, findShards(files, names))
  }

  // 4. Only now: a revision in the cache is one that can be served.
  await cache.writeRef(id.revision, commit)
  return { commit, path }
}

function readSnapshot({ cache }: Job, commit: string, name: string): Promise<string> {
  return readFile(join(cache.snapshotPath(commit), name), 'utf8')
}

async function fetchFiles(
  { cache, hub, id, retry, signal }: Job,
  commit: string,
  files: readonly RepoFile[],
  onBytes?: (file: RepoFile, bytes: number) => void,
): Promise<void> {
  for (const file of files) {
    if (await cache.has(commit, file)) continue
    const path = cache.blobPath(commit, file)
    if ((await sizeOf(path)) !== file.size) {
      const url = fileUrl(hub, id.repo, commit, file.name)
      await downloadFile({
        url,
        file,
        path,
        fetch: hub.fetch,
        retry,
        signal,
        onBytes: (bytes) => onBytes?.(file, bytes),
      })
    }
    await cache.link(commit, file)
  }
}

/** A bar is redrawn, and a line considered, so many times in all. */
const reports = 1000

async function fetchWeights(job: Job, commit: string, files: readonly RepoFile[]): Promise<void> {
  const { cache, id, settings, onProgress } = job
  const here = new Map<string, number>()
  for (const file of files) {
    const blob = cache.blobPath(commit, file)
    const isHere = (await cache.has(commit, file)) || (await sizeOf(blob)) === file.size
    here.set(file.name, isHere ? file.size : ((await sizeOf(halfPath(blob))) ?? 0))
  }
  const total = files.reduce((sum, { size }) => sum + size, 0)
  const numHere = () => [...here.values()].reduce((sum, bytes) => sum + bytes, 0)
  await requireSpace(job, total - numHere())

  const what = `downloading ${id.repo} (${readableBytes(total)})`
  let reported = -1
  await fetchFiles(job, commit, files, ({ name }, bytes) => {
    here.set(name, bytes)
    const step = Math.floor((numHere() / total) * reports)
    if (step === reported) return
    reported = step
    onProgress(what, numHere(), total)
  })

  async function requireSpace({ freeBytesOf = freeBytes }: Job, bytes: number): Promise<void> {
    makeFolder(settings.cacheDir)
    const free = freeBytesOf(settings.cacheDir)
    if (free === null || free >= bytes) return
    throw new ServerError(
      'download_failed',
      `--model ${id.repo} needs ${readableBytes(bytes)} more and ${settings.cacheDir} has ${readableBytes(free)}: make room, or set HF_HUB_CACHE to another folder`,
    )
  }
}
