// Why weights stay as they are, each with its remedy.

import type { MergedAdapter } from '../contracts/adapter.ts'
import { mebibytes } from '../contracts/bytes.ts'
import type { ModelInfo } from '../contracts/engine.ts'
import { describeParts, totalBytes } from '../contracts/memory.ts'
import { ServerError } from '../errors.ts'

/** Most adapters in the weights: a request may have to take all of them off. */
export const maxMerged = 4

/** What an engine says of its start is for who starts a server. */
export function explain(error: unknown): ServerError {
  if (!(error instanceof ServerError)) {
    return new ServerError('merge_failed', 'The weights stay as they are: see the log.')
  }
  const { code, status, message } = error
  if (status !== 500 || code === 'merge_unverified') return error
  return new ServerError('merge_failed', `The weights stay as they are: ${message}`)
}

export function refuseWithoutMemory({ bytes }: ModelInfo, available: number): void {
  if (totalBytes(bytes) <= available) return
  throw new ServerError(
    'memory_full',
    `A second engine needs ${describeParts(bytes)} and ${mebibytes(available)} MiB are free: send ` +
      '{"mode": "drain"} to stop the first one before, or lower --kv-memory.',
    { param: 'mode' },
  )
}

export function inProgress(): ServerError {
  return new ServerError(
    'merge_in_progress',
    'Another change of the weights is under way; GET /v1/adapters/merge says how far it is.',
  )
}

export function notMerged(id: string): ServerError {
  return new ServerError(
    'adapter_not_merged',
    `The adapter "${id.slice(0, 64)}" is not part of the weights; GET /v1/adapters/merge says what is.`,
    { param: 'id' },
  )
}

export function changedMeanwhile({ id }: MergedAdapter): ServerError {
  return new ServerError(
    'adapter_conflict',
    `The weights hold another version of "${id}" than its folder: unmerge it first.`,
    { param: 'id' },
  )
}

export function tooMany(): ServerError {
  return new ServerError(
    'adapter_conflict',
    `The weights hold ${maxMerged} adapters already: unmerge one first.`,
    { param: 'id' },
  )
}
