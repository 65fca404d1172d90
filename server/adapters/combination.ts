// What the adapters of one request must be together.

import type { AdapterSelection } from '../contracts/adapter.ts'
import { ServerError } from '../errors.ts'
import { refuseRank } from './peft.ts'
import { decideStrengths } from './strength.ts'
import type { AdapterVersion } from './versions.ts'

export interface CombinationLimits {
  readonly maxRankPerRow: number
  readonly maxBytes: number
  /** What takes nothing of either: it is in the weights; none by default. */
  readonly merged?: readonly AdapterVersion[]
}

/** These versions may serve the request; returns how strong each is. */
export function checkCombination(
  selection: AdapterSelection,
  versions: readonly AdapterVersion[],
  { maxRankPerRow, maxBytes, merged = [] }: CombinationLimits,
): readonly number[] {
  const names = selection.adapters.map(({ id }) => id).join(' + ')
  const hot = versions.filter((version) => !merged.includes(version))
  const rank = hot.reduce((sum, { about }) => sum + about.rank, 0)
  if (rank > maxRankPerRow) refuseRank(names, rank, maxRankPerRow)
  const bytes = hot.reduce((sum, version) => sum + version.bytes, 0)
  if (bytes > maxBytes) {
    throw new ServerError(
      'adapter_limit',
      `${names} would take ${bytes} bytes; --adapter-memory holds ${maxBytes}. Raise it.`,
    )
  }
  return decideStrengths(
    selection,
    versions.map(({ about }) => about.manifest.defaultScale),
  )
}

export function refuseRepeats({ adapters }: AdapterSelection): void {
  const repeated = adapters.find(({ id }, i) => adapters.findIndex((ref) => ref.id === id) !== i)
  if (repeated === undefined) return
  throw new ServerError('adapter_conflict', `Adapter "${repeated.id}" is named twice.`, {
    param: 'adapter',
  })
}
