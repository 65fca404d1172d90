// One step that judges: the guard's token at the place of each row's verdict. The position that it writes
// is free, or is saved before and restored after, so that no row ever reads it.

import type { LoadedGuard } from '../safety/guard.ts'
import type { SavedBlock } from './prefix-cache.ts'
import type { Sequence } from './sequence.ts'
import type { StepRunner } from './step-runner.ts'

export interface VerdictStep {
  readonly kind: 'verdict'
  /** sequences[i] is in row i. */
  readonly sequences: readonly Sequence[]
  /** Place of each row's verdict; null: the row is judged later, and only stands in between. */
  readonly places: ReadonlyArray<number | null>
  /** Those that are not. */
  readonly judged: readonly Sequence[]
}

/** All rows that can be judged now, if one of them waits for no more company. */
export function dueVerdicts(decoding: readonly Sequence[]): VerdictStep | null {
  if (!decoding.some(({ isPressing }) => isPressing)) return null
  const last = decoding.findLastIndex(({ verdictAt }) => verdictAt !== null)
  const sequences = decoding.slice(0, last + 1)
  const places = sequences.map(({ verdictAt }) => verdictAt)
  return {
    kind: 'verdict',
    sequences,
    places,
    judged: sequences.filter((_, i) => places[i] !== null),
  }
}

type VerdictRunner<Saved extends SavedBlock> = Pick<
  StepRunner<Saved>,
  'verdict' | 'savePositions' | 'restorePositions'
>

/** Logits [rows × vocab], of which those of the guard's labels are right. */
export async function runVerdicts<Saved extends SavedBlock>(
  runner: VerdictRunner<Saved>,
  { token, components, labels }: LoadedGuard,
  { sequences, places }: VerdictStep,
): Promise<Float32Array> {
  const batch = sequences.map(({ numComputed }, row) => ({
    token,
    past: places[row] ?? numComputed,
  }))
  const taken: Array<{ readonly row: number; readonly past: number; readonly saved: Saved }> = []
  for (const [row, { past }] of batch.entries()) {
    if (past === sequences[row]!.numComputed) continue
    taken.push({ row, past, saved: runner.savePositions(row, past, 1) })
  }
  try {
    return await runner.verdict(batch, components, [labels.safe, labels.unsafe])
  } finally {
    for (const { row, past, saved } of taken) {
      runner.restorePositions(saved, row, past)
      saved.release()
    }
  }
}
