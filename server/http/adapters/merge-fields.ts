// What a request says that changes the weights. An unknown field is refused.

import { z } from 'zod'
import { adapterNamePattern, maxAdapterScale } from '../../contracts/adapter.ts'
import type { MergeChange } from '../../contracts/engine.ts'
import { ServerError } from '../../errors.ts'
import { quote } from '../request/quote.ts'
import { parseChange } from './parse-change.ts'

const scaleRule = `must be a number above 0 and up to ${maxAdapterScale}`
const scale = z
  .number({ error: scaleRule })
  .positive({ error: scaleRule })
  .max(maxAdapterScale, { error: scaleRule })
  .nullish()
const mode = z
  .enum(['beside', 'drain'], { error: 'must be beside or drain' })
  .nullish()
  .describe('drain: the engine ends before the next one starts')

export const unmergeSchema = z.strictObject({ mode })
export const mergeSchema = unmergeSchema.extend({ scale, strength: scale })

type Body = Readonly<Record<string, unknown>>

export function parseMerge(id: string, body: Body): MergeChange {
  refuseOrthogonal(body)
  const { scale, strength, mode } = parseChange(mergeSchema, body)
  if (scale != null && strength != null && scale !== strength) {
    throw new ServerError('invalid_value', 'scale and strength are one thing; send one of them', {
      param: 'strength',
    })
  }
  const drains = mode === 'drain'
  return { kind: 'merge', id: requireId(id), scale: scale ?? strength ?? null, drains }
}

/** `id`: null: all. */
export function parseUnmerge(id: string | null, body: Body): MergeChange {
  const { mode } = parseChange(unmergeSchema, body)
  return { kind: 'unmerge', id: id === null ? null : requireId(id), drains: mode === 'drain' }
}

const maxWaitSeconds = 3600
const usualWaitSeconds = 600

/** Milliseconds of ?wait, which is in seconds. */
export function parseMergeWait(text: string | undefined): number {
  if (text === undefined) return usualWaitSeconds * 1000
  const seconds = /^\d{1,4}$/.test(text) ? Number(text) : Number.POSITIVE_INFINITY
  if (seconds <= maxWaitSeconds) return seconds * 1000
  throw new ServerError(
    'invalid_value',
    `wait must be a whole number of seconds from 0 to ${maxWaitSeconds}; got ${quote(text)}`,
    { param: 'wait' },
  )
}

/** It changes an adapter, and needs the weights' singular vectors: minutes of work, done once. */
function refuseOrthogonal(body: Body): void {
  const named = ['orthomerge', 'k', 'lambda'].find((field) => field in body)
  if (named === undefined) return
  throw new ServerError(
    'unsupported_parameter',
    `${named}: OrthoMerge is done offline: npm run orthomerge makes an adapter with less overlap; ` +
      'upload that one, and merge it.',
    { param: named },
  )
}

function requireId(id: string): string {
  if (adapterNamePattern.test(id) && id !== 'none') return id
  throw new ServerError('model_not_found', `there is no adapter ${quote(id)}`, { param: 'id' })
}
