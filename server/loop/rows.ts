// Rows of the KV cache: those in use stay the first ones.

import type { Sequence } from './sequence.ts'

export interface RowMove {
  readonly from: number
  readonly to: number
  /** Positions in use. */
  readonly length: number
}

/** Takes a row out; the last one takes its place, and the one being prefilled moves up behind. */
export function removeRow(
  decoding: Sequence[],
  row: number,
  prefilling: Sequence | undefined,
): RowMove[] {
  if (row < 0) return []
  const moves: RowMove[] = []
  const last = decoding.length - 1
  const moved = decoding.pop()
  if (row !== last && moved !== undefined) {
    decoding[row] = moved
    moves.push({ from: last, to: row, length: moved.numComputed })
  }
  if (prefilling !== undefined && prefilling.numComputed > 0) {
    moves.push({ from: last + 1, to: last, length: prefilling.numComputed })
  }
  return moves
}
