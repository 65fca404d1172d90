// What can go wrong between here and a hub, and the one line that an operator reads. Lines are made of
// our own words: what a hub or a library says may quote addresses that carry signatures.

import { ServerError } from '../errors.ts'
import type { HubId } from './hub-id.ts'

export interface FailureFields {
  /** Null when no answer came. */
  readonly status: number | null
  /** A network error's code ("ECONNREFUSED"), or what the hub put into X-Error-Code. */
  readonly reason: string | null
  readonly retryAfterMs?: number | null
}

export class HubFailure extends Error {
  override readonly name = 'HubFailure'
  readonly status: number | null
  readonly reason: string | null
  /** How long the hub wants to be left alone. */
  readonly retryAfterMs: number | null

  constructor({ status, reason, retryAfterMs = null }: FailureFields) {
    super(status === null ? `no answer (${reason})` : `status ${status}`)
    this.status = status
    this.reason = reason
    this.retryAfterMs = retryAfterMs
  }

  /** May the same question be answered in a moment? */
  get isPassing(): boolean {
    const { status } = this
    return status === null || status === 408 || status === 429 || status >= 500
  }
}

/** The failure behind what fetch throws; undefined where the network is not to blame. */
export function findFailure(error: unknown): HubFailure | undefined {
  if (error instanceof HubFailure) return error
  if (error instanceof DOMException && error.name === 'TimeoutError') {
    return new HubFailure({ status: null, reason: 'timeout' })
  }
  // undici: "fetch failed" before the headers, "terminated" after them.
  if (error instanceof TypeError && error.cause instanceof Error) {
    const { code, name } = error.cause as NodeJS.ErrnoException
    return new HubFailure({ status: null, reason: code ?? name })
  }
  return undefined
}

export interface Asked {
  readonly id: Pick<HubId, 'repo' | 'revision'>
  /** Who asks: "--model org/name". */
  readonly subject: string
  /** What one may give instead of what the hub has not, and of a hub. */
  readonly remedies: { readonly missing: string; readonly unreachable: string }
  readonly endpoint: string
  readonly hasToken: boolean
  readonly cacheDir: string
}

/** ENOENT: below a link that leads nowhere, or where no folder can be made, such as /proc. */
const unwritable = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST', 'ENOENT', 'ELOOP'])

/** Anything that ended a fetch, as the line that an operator can act on. Bugs stay what they are. */
export function explain(error: unknown, asked: Asked): unknown {
  if (error instanceof ServerError) return error
  const failure = findFailure(error)
  if (failure) return explainFailure(failure, asked)
  const { code } = error as NodeJS.ErrnoException
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new ServerError(
      'download_failed',
      `The disk of ${asked.cacheDir} is full. What was downloaded is kept: make room and start again, or set HF_HUB_CACHE to another folder`,
    )
  }
  if (code !== undefined && unwritable.has(code)) {
    return new ServerError(
      'download_failed',
      `${asked.cacheDir} cannot be written (${code}); set HF_HUB_CACHE to a folder that can`,
    )
  }
  return error
}

function explainFailure({ status, reason }: HubFailure, asked: Asked): ServerError {
  const { host } = new URL(asked.endpoint)
  const { subject, remedies } = asked
  const { revision } = asked.id
  if (status === null) {
    return new ServerError(
      'hub_unavailable',
      `${subject}: the hub at ${host} cannot be reached (${reason}); check the network and HF_ENDPOINT, or ${remedies.unreachable}`,
    )
  }
  if (status === 401 || status === 403) {
    const why = asked.hasToken
      ? 'the token in use may not read it, or it does not exist'
      : 'it is gated or private, or does not exist'
    return new ServerError(
      'hub_access_denied',
      `${subject}: ${host} refuses access (${status}): ${why}. Accept its conditions on its page and set HF_TOKEN to a token that may read it`,
    )
  }
  if (status === 404) {
    const what =
      reason === 'RevisionNotFound'
        ? `no revision "${revision}" of this model`
        : reason === 'RepoNotFound'
          ? 'no such model'
          : `no such model, or no revision "${revision}" of it`
    return new ServerError('hub_not_found', `${subject}: ${host} has ${what}; ${remedies.missing}`)
  }
  return new ServerError(
    'hub_unavailable',
    `${subject}: the hub at ${host} answers with status ${status}; try again later, or check HF_ENDPOINT`,
  )
}
