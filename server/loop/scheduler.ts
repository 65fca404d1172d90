// Decides what the next step runs. Deterministic and without I/O: sequences go in, steps come out.
//
// Cache rows in use are always 0 … m − 1: first the decoding sequences, then at most one that is
// being prefilled. When a row falls free the rows behind it move up; the caller copies the cache.
//
// Prefill and decode take turns, so neither new nor running sequences starve. A turn of prefill has a
// budget of prompt tokens, not of sequences: several short prompts fit in one, a long one takes many.
// Verdicts of all rows are gathered into steps of their own, between the others (verdict-step.ts).
//
// Who waits is admitted in turn (turns.ts): clients by the tokens computed for them, the requests of one
// client by what they may cost. Nobody is admitted before the first in turn. Where that one finds no row
// or no memory, one that runs may have to give way (giving-way.ts).

import { createTurns } from '../turns/turns.ts'
import { costOf, createGivingWay } from './giving-way.ts'
import {
  type CopyStep,
  createPrefillTurn,
  type PrefillStep,
  type PrefillTurnOptions,
  type PrefixHit,
} from './prefill-turn.ts'
import { type RowMove, removeRow } from './rows.ts'
import type { Sequence } from './sequence.ts'
import { dueVerdicts, type VerdictStep } from './verdict-step.ts'

export interface DecodeStep {
  readonly kind: 'decode'
  /** sequences[i] is in row i. */
  readonly sequences: readonly Sequence[]
}

export type Step = CopyStep | PrefillStep | DecodeStep | VerdictStep

export interface SchedulerOptions extends PrefillTurnOptions {
  readonly rows: number
  /** Finds memory for one more beside those that hold a row; "soon": after some of their steps. */
  readonly tryAdmit?: (sequence: Sequence, running: readonly Sequence[]) => boolean | 'soon'
  /** The next piece of a prefix that can be copied. */
  readonly match?: (sequence: Sequence, running: readonly Sequence[]) => PrefixHit | null
}

/** An item may be overtaken by so many times its own cost a row. */
const stretchPerRow = 8

export type Scheduler = ReturnType<typeof createScheduler>

export function createScheduler(options: SchedulerOptions) {
  const { rows, tryAdmit = () => true, match = () => null } = options
  const turns = createTurns<Sequence>({ stretch: stretchPerRow * rows })
  const givingWay = createGivingWay(turns)
  const prefillTurn = createPrefillTurn(options)
  const decoding: Sequence[] = []
  /** The first in turn found no memory. */
  let isShort = false
  let prefilling: Sequence | undefined

  function running(): Sequence[] {
    return prefilling === undefined ? [...decoding] : [...decoding, prefilling]
  }

  function admit(): void {
    isShort = false
    if (prefilling !== undefined || decoding.length >= rows) return
    const first = turns.first()
    if (first === undefined) return
    const hasRoom = tryAdmit(first, decoding)
    isShort = hasRoom === false
    if (hasRoom !== true) return
    turns.take(first)
    givingWay.begin(first)
    prefilling = first
  }

  /** What the sequence being prefilled runs next; null where it is the others' turn. */
  function nextOfPrompt(): CopyStep | PrefillStep | null {
    if (prefilling === undefined) return null
    const sequence = prefilling
    const row = decoding.length
    const hit = match(sequence, running())
    if (hit !== null) return prefillTurn.copy(sequence, row, hit)
    if (sequence.numComputed < sequence.promptTokens.length) return prefillTurn.chunk(sequence, row)
    // It was preempted while it decoded, and its whole prompt was copied.
    finishPrefill()
    return null
  }

  function ofPrompt(): CopyStep | PrefillStep | null {
    const step = nextOfPrompt()
    if (step !== null) {
      turns.charge(step.sequence, step.kind === 'prefill' ? step.to - step.from : 1)
    }
    return step
  }

  /** The prompt of the sequence being prefilled has its keys and values: it decodes from now on. */
  function finishPrefill(): void {
    if (prefilling === undefined) throw new Error('no sequence is being prefilled')
    decoding.push(prefilling)
    prefilling = undefined
  }

  /** A verdict that waits for no more company comes first: streams wait for it. */
  function judge(): VerdictStep | null {
    const step = dueVerdicts(decoding)
    for (const sequence of step?.judged ?? []) turns.charge(sequence, 1)
    return step
  }

  // ---- Giving way ----

  /** Of those that hold a row, who gives it up to the first in turn. */
  function yielding(): Sequence | undefined {
    if (turns.numWaiting === 0) return undefined
    if (prefilling === undefined && decoding.length < rows && !isShort) return undefined
    // One prompt is computed at a time: only that one is in the way of the next.
    if (prefilling !== undefined) return givingWay.choose([], prefilling)
    return givingWay.choose(decoding, undefined)
  }

  // ---- Rows ----

  /** Takes a sequence from its row; returns the cache rows that must move, in order. */
  function vacate(sequence: Sequence): RowMove[] {
    if (sequence === prefilling) {
      prefilling = undefined
      return []
    }
    return removeRow(decoding, decoding.indexOf(sequence), prefilling)
  }

  return {
    get numWaiting() {
      return turns.numWaiting
    },
    /** Changes when a sequence begins or ends to wait. */
    get waitingVersion() {
      return turns.version
    },
    get numRunning() {
      return decoding.length + (prefilling === undefined ? 0 : 1)
    },
    /** Sequences that hold a row. */
    running(): readonly Sequence[] {
      return running()
    },
    waiting(): readonly Sequence[] {
      return turns.waiting()
    },

    add(sequence: Sequence): void {
      turns.add(sequence, sequence.request.turn, costOf(sequence))
    },

    /** What runs next. Null when there is nothing to do. */
    schedule(): Step | null {
      admit()
      const step = judge() ?? ofPrompt() ?? judge()
      if (step !== null) return step
      prefillTurn.end()
      for (const sequence of decoding) turns.charge(sequence, 1)
      return decoding.length > 0 ? { kind: 'decode', sequences: [...decoding] } : null
    },

    finishPrefill,

    /** Takes a sequence out, wherever it is; returns the cache rows that must move, in order. */
    remove(sequence: Sequence): RowMove[] {
      return turns.remove(sequence) ? [] : vacate(sequence)
    },

    /** Of those that hold a row, who came last. */
    youngest(): Sequence | undefined {
      return givingWay.youngest(running())
    },

    /** A sequence gives its row up, and waits for nothing here. */
    park: vacate,

    /** A sequence gives up the row that it may have, and waits where it had waited before. */
    preempt(sequence: Sequence): RowMove[] {
      const moves = vacate(sequence)
      if (!turns.isWaiting(sequence)) turns.putBack(sequence)
      return moves
    },

    yielding,

    /** A sequence gives its row up to the first in turn, and waits as if it came now. */
    giveWay(sequence: Sequence): RowMove[] {
      const moves = vacate(sequence)
      givingWay.putLast(sequence)
      return moves
    },
  }
}
