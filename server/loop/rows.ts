// Rows of the KV cache: those in use stay the first ones. Between two steps some
// sequences give theirs up.

import type { KvManager } from './kv-manager.ts'
import type { Readings } from './readings.ts'
import type { Sequence } from './sequence.ts'
import type { StepRunner } from './step-runner.ts'

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

/** Who holds a row and who loses it. What takes one returns the cache rows that must move, in order. */
interface RowHolders {
  running(): readonly Sequence[]
  youngest(): Sequence | undefined
  yielding(): Sequence | undefined
  preempt(sequence: Sequence): RowMove[]
  park(sequence: Sequence): RowMove[]
  giveWay(sequence: Sequence): RowMove[]
}

export interface RowKeeperOptions {
  readonly runner: Pick<StepRunner, 'copyRow'>
  readonly scheduler: RowHolders
  readonly kvManager: Pick<KvManager, 'tryHold' | 'forget'>
  readonly readings: Pick<Readings, 'beginFor'>
}

/** Takes rows from sequences between two steps, and moves the cache after them. */
export function createRowKeeper({ runner, scheduler, kvManager, readings }: RowKeeperOptions) {
  function move(moves: readonly RowMove[]): void {
    for (const { from, to, length } of moves) runner.copyRow(from, to, 0, length)
  }

  /** Its keys and values are computed again later. */
  function take(sequence: Sequence, moves: readonly RowMove[]): void {
    move(moves)
    kvManager.forget(sequence)
    sequence.preempt()
  }

  function giveUp(sequence: Sequence): void {
    take(sequence, scheduler.preempt(sequence))
  }

  return {
    move,

    /** It waits where it had waited before. */
    giveUp,

    /** Room for the next token of every row: where there is none, the youngest is preempted. */
    makeRoom(): void {
      while (!kvManager.tryHold(scheduler.running())) {
        const sequence = scheduler.youngest()
        if (sequence === undefined) return
        giveUp(sequence)
      }
    },

    /** Who has said all and waits for what another row reads has no row meanwhile: the other needs one. */
    readAnew(): void {
      for (const sequence of scheduler.running()) {
        readings.beginFor(sequence)
        if (sequence.awaitsReading) take(sequence, scheduler.park(sequence))
      }
    },

    /** A row for who waits and is in turn, from one that had more than its share. */
    makeWay(): void {
      const sequence = scheduler.yielding()
      if (sequence !== undefined) take(sequence, scheduler.giveWay(sequence))
    },
  }
}
