// An adapter from the hub to a folder: the files of PEFT and the manifest, at one commit, and nothing else
// of the repository. It does not go through the cache of checkpoints: what is fetched is kept by whoever
// asked, checked and under the name that was asked for.

import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { adapterFiles, type FetchAdapter } from '../contracts/adapter.ts'
import type { Logger } from '../contracts/logger.ts'
import { ServerError } from '../errors.ts'
import { downloadFile } from './download.ts'
import { type Asked, explain, findFailure } from './failure.ts'
import { createHubFetch } from './hub-fetch.ts'
import { type HubId, parseHubId } from './hub-id.ts'
import { fileUrl, type Hub, listRepoFiles, type RepoFile, resolveCommit } from './repo.ts'
import { createRetry } from './retries.ts'
import type { HubSettings } from './settings.ts'

export interface AdapterFetcherOptions {
  readonly settings: HubSettings
  readonly logger: Logger
  /** Resolves after so many milliseconds; rejects when the signal says so. */
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<unknown>
}

/** A client waits for it: a hub that wants to be left alone for long is not waited for. */
const longestWaitMs = 5000

export function createAdapterFetcher({
  settings,
  logger,
  wait = (ms, signal) => sleep(ms, undefined, { signal }),
}: AdapterFetcherOptions): FetchAdapter {
  return async function fetchAdapter({ repo, revision, folder, maxBytes, signal }) {
    const id = requireId(repo, revision)
    if (settings.isOffline) throw offline(id)
    const { endpoint, cacheDir } = settings
    const hub: Hub = { endpoint, fetch: createHubFetch({ settings, signal }) }
    const retry = createRetry({
      wait: (ms) => wait(Math.min(ms, longestWaitMs), signal),
      signal,
      logger,
    })
    const asked: Asked = {
      id,
      subject: `hub ${id.repo}`,
      remedies: {
        missing: 'give org/name, and a revision that it has',
        unreachable: 'upload its files',
      },
      endpoint,
      cacheDir,
      hasToken: settings.token !== null,
    }
    try {
      const commit = await retry('revision', () => resolveCommit(hub, id))
      const listed = await retry('listing', () => listRepoFiles(hub, id.repo, commit))
      for (const file of selectFiles(listed, id.repo, maxBytes)) {
        const url = fileUrl(hub, id.repo, commit, file.name)
        const path = join(folder, file.name)
        await downloadFile({ url, file, path, fetch: hub.fetch, retry, signal })
      }
      logger.info({ repo: id.repo, revision: id.revision, commit }, 'adapter fetched')
      return { commit }
    } catch (error) {
      // The disk here is not that of the cache: its errors are for the caller.
      throw findFailure(error) === undefined ? error : explain(error, asked)
    }
  }
}

function requireId(repo: string, revision: string | null): HubId {
  const id = parseHubId(revision === null ? repo : `${repo}@${revision}`)
  if (id !== null && id.gguf === null && id.repo === repo) return id
  throw new ServerError(
    'invalid_value',
    'hub must be org/name of a repository, without an address, and revision a branch, a tag or a commit',
    { param: 'hub' },
  )
}

/** Throws ServerError where they are no adapter, or more than may come. */
function selectFiles(
  listed: readonly RepoFile[],
  repo: string,
  maxBytes: number,
): readonly RepoFile[] {
  const { config, tensors, manifest } = adapterFiles
  const files = [config, tensors, manifest].flatMap((name) =>
    listed.filter((file) => file.name === name),
  )
  const missing = [config, tensors].find((name) => !files.some((file) => file.name === name))
  if (missing !== undefined) {
    throw new ServerError(
      'invalid_adapter',
      `${repo} has no ${missing} at its top: it is no adapter as PEFT saves it; nothing was changed`,
      { param: 'hub' },
    )
  }
  const bytes = files.reduce((sum, { size }) => sum + size, 0)
  if (bytes <= maxBytes) return files
  throw new ServerError(
    'request_too_large',
    `${repo} has ${bytes} bytes of adapter, and ${maxBytes} may come (--max-upload)`,
    { param: 'hub' },
  )
}

function offline({ repo }: HubId): ServerError {
  return new ServerError(
    'hub_unavailable',
    `hub ${repo}: HF_HUB_OFFLINE is set, and nothing is fetched; upload its files`,
  )
}
