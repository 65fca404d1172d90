// Decides what the next step runs. Deterministic and without I/O: sequences go in, steps come out.
//
// Cache rows in use are always 0 … m − 1: first the decoding sequences, then at most one that is
// being prefilled. When a row falls free the rows behind it move up; the caller copies the cache.
//
// Prefill and decode take turns, so neither new nor running sequences starve. A turn of prefill has a
// budget of prompt tokens, not of sequences: several short prompts fit in one, a long one takes many.
//
// Who waits is admitted in turn (turns.ts): clients by the tokens computed for them, the requests of one
// client by what they may cost. Where the first in turn finds no row or no memory, one that runs gives
// way if its client is ahead by `fairLead` tokens, or, within a client, if `muchLarger` times as much is
// left of it. It goes on later, bit for bit. Nobody else is admitted before the first in turn.

import { createTurns } from '../turns/turns.ts'
import type { Sequence } from './sequence.ts'

/** A piece of a sequence's prefix whose keys and values are there already. */
export interface PrefixHit {
  /** Positions [from, to). */
  readonly from: number
  readonly to: number
  /** Copies them into a cache row. */
  copyTo(row: number): void
}

export interface CopyStep {
  readonly kind: 'copy'
  readonly sequence: Sequence
  readonly row: number
  readonly hit: PrefixHit
}

export interface PrefillStep {
  readonly kind: 'prefill'
  readonly sequence: Sequence
  readonly row: number
  /** Prompt tokens [from, to) are computed. */
  readonly from: number
  readonly to: number
}

export interface DecodeStep {
  readonly kind: 'decode'
  /** sequences[i] is in row i. */
  readonly sequences: readonly Sequence[]
}

export type Step = CopyStep | PrefillStep | DecodeStep

export interface RowMove {
  readonly from: number
  readonly to: number
  /** Positions in use. */
  readonly length: number
}

export interface SchedulerOptions {
  readonly rows: number
  readonly maxChunk: number
  /** Longest chunk where the logits of each of its tokens are wanted. */
  readonly maxLogitsChunk?: number
  /** Positions of a copy that takes a whole turn. */
  readonly maxCopy?: number
  /** Prompt tokens that may be computed between two decode steps; maxChunk unless said. */
  readonly prefillBudget?: () => number
  /** Finds memory for one more beside those that hold a row. */
  readonly tryAdmit?: (sequence: Sequence, running: readonly Sequence[]) => boolean
  /** The next piece of a prefix that can be copied. */
  readonly match?: (sequence: Sequence, running: readonly Sequence[]) => PrefixHit | null
}

/** A lone token runs other kernels, which round differently: a chunk has two, where it can. */
export const minChunk = 2
/**
 * Chunks end at multiples of this. Quantised products take tokens by twos and an odd one by itself,
 * which rounds differently: so it is the last token of the prompt, however the prompt is cut.
 */
export const chunkMultiple = 16

/** Where the chunk that begins at `from` ends, so that no lone token is left for the next. */
export function chunkEnd(from: number, length: number, maxChunk: number): number {
  if (from + maxChunk >= length) return length
  const size = maxChunk < chunkMultiple ? maxChunk : maxChunk - (maxChunk % chunkMultiple)
  const isLoneLeft = length - (from + size) < minChunk
  return from + (isLoneLeft && size > minChunk ? size - minChunk + (size % 2) : size)
}

/** Tokens by which a client may be ahead of one that waits, before it gives a row up. */
export const fairLead = 256
/** Within a client, so many times as large is what gives its row up to what waits. */
export const muchLarger = 8
/** Tokens that a sequence gets each time it runs, before it may have to give way. */
export const leastRun = 32
/** A prompt with no more tokens left than this is computed to its end. */
const shortRest = 256
/** An item may be overtaken by so many times its own cost a row. */
const stretchPerRow = 8
/** What may run for very long counts as this long, so that it does not wait for very long. */
const mostCost = 4096

export type Scheduler = ReturnType<typeof createScheduler>

export function createScheduler(options: SchedulerOptions) {
  const { rows, maxChunk, maxLogitsChunk = maxChunk, maxCopy = Infinity } = options
  const { prefillBudget = () => maxChunk, tryAdmit = () => true, match = () => null } = options
  const turns = createTurns<Sequence>({ stretch: stretchPerRow * rows })
  const decoding: Sequence[] = []
  /** Tokens that a sequence had when it got its row, and how often it gave way. */
  const runs = new WeakMap<Sequence, { numTokens: number; numYields: number }>()
  /** The first in turn found no memory. */
  let isShort = false
  let prefilling: Sequence | undefined
  /** Prompt tokens since the last decode step. */
  let budgetUsed = 0

  function running(): Sequence[] {
    return prefilling === undefined ? [...decoding] : [...decoding, prefilling]
  }

  function admit(): void {
    isShort = false
    if (prefilling !== undefined || decoding.length >= rows) return
    const first = turns.first()
    if (first === undefined) return
    isShort = !tryAdmit(first, decoding)
    if (isShort) return
    turns.take(first)
    runs.set(first, { numTokens: first.numTokens, numYields: runs.get(first)?.numYields ?? 0 })
    prefilling = first
  }

  /** What the sequence being prefilled runs next; null where it is the others' turn. */
  function nextOfPrompt(): CopyStep | PrefillStep | null {
    if (prefilling === undefined) return null
    const turn = Math.min(prefillBudget(), maxChunk)
    const left = decoding.length > 0 ? turn - budgetUsed : maxChunk
    const hit = match(prefilling, running())
    if (hit !== null) return nextCopy(prefilling, hit, turn, left)
    if (prefilling.numComputed < prefilling.promptTokens.length) {
      return nextChunk(prefilling, turn, left)
    }
    // It was preempted while it decoded, and its whole prompt was copied.
    finishPrefill()
    return null
  }

  /** Copying is cheap beside computing: the longest copy is worth a whole turn. */
  function nextCopy(
    sequence: Sequence,
    hit: PrefixHit,
    turn: number,
    left: number,
  ): CopyStep | null {
    const cost = Math.ceil((turn * (hit.to - hit.from)) / maxCopy)
    if (left < Math.min(cost, turn)) return null
    budgetUsed += cost
    turns.charge(sequence, 1)
    return { kind: 'copy', sequence, row: decoding.length, hit }
  }

  function nextChunk(sequence: Sequence, turn: number, left: number): PrefillStep | null {
    const from = sequence.numComputed
    const length = sequence.promptTokens.length
    // A smaller rest of a turn is left to the next one, unless it is all that the prompt needs.
    if (left < Math.min(chunkMultiple, turn, length - from)) return null
    const most = sequence.needsPromptLogits ? Math.min(left, maxLogitsChunk) : left
    const to = chunkEnd(from, length, Math.min(most, maxChunk))
    budgetUsed += to - from
    turns.charge(sequence, to - from)
    return { kind: 'prefill', sequence, row: decoding.length, from, to }
  }

  /** The prompt of the sequence being prefilled has its keys and values: it decodes from now on. */
  function finishPrefill(): void {
    if (prefilling === undefined) throw new Error('no sequence is being prefilled')
    decoding.push(prefilling)
    prefilling = undefined
  }

  // ---- Giving way ----

  /** It had its least run, and going on would hold the first in turn up for long. */
  function mayYield(sequence: Sequence): boolean {
    const { numTokens, numYields } = runs.get(sequence)!
    if (sequence !== prefilling) return sequence.numTokens - numTokens >= leastRun
    if (sequence.isRecomputing) return false
    // What a prompt has computed may be lost: so each time it gets more.
    if (sequence.numComputed - sequence.numReused < leastRun * 2 ** numYields) return false
    return sequence.promptTokens.length - sequence.numComputed > shortRest
  }

  /** How much too long it runs beside what waits; 0 where it may go on. */
  function excess(sequence: Sequence, first: Sequence): number {
    const lead = turns.lead(sequence, first)
    if (lead !== null) return lead >= fairLead ? lead : 0
    return costOf(sequence) >= muchLarger * costOf(first) ? 1 : 0
  }

  /** Of those that hold a row, who gives it up to the first in turn. */
  function yielding(): Sequence | undefined {
    if (turns.numWaiting === 0) return undefined
    if (prefilling === undefined && decoding.length < rows && !isShort) return undefined
    const first = turns.first()!
    // One prompt is computed at a time: only that one is in the way of the next.
    const candidates = (prefilling === undefined ? decoding : [prefilling]).filter(mayYield)
    let worst: Sequence | undefined
    let most = 0
    for (const sequence of candidates) {
      const over = excess(sequence, first)
      if (over < most || over === 0) continue
      if (over === most && worst !== undefined && isOlder(sequence, worst)) continue
      worst = sequence
      most = over
    }
    return worst
  }

  function isOlder(x: Sequence, y: Sequence): boolean {
    return turns.arrivalOf(x) < turns.arrivalOf(y)
  }

  // ---- Rows ----

  /** Takes a sequence from its row; returns the cache rows that must move, in order. */
  function vacate(sequence: Sequence): RowMove[] {
    if (sequence === prefilling) {
      prefilling = undefined
      return []
    }
    const row = decoding.indexOf(sequence)
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
      const step = nextOfPrompt()
      if (step !== null) return step
      budgetUsed = 0
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
      return running().reduce<Sequence | undefined>((youngest, sequence) => {
        return youngest && isOlder(sequence, youngest) ? youngest : sequence
      }, undefined)
    },

    /** For want of memory a sequence gives its row up, and waits where it had waited before. */
    preempt(sequence: Sequence): RowMove[] {
      const moves = vacate(sequence)
      turns.putBack(sequence)
      return moves
    },

    yielding,

    /** A sequence gives its row up to the first in turn, and waits as if it came now. */
    giveWay(sequence: Sequence): RowMove[] {
      const moves = vacate(sequence)
      turns.putLast(sequence, costOf(sequence))
      runs.get(sequence)!.numYields++
      return moves
    },
  }
}

/** Tokens that may yet be computed for it. */
function costOf({ promptTokens, maxTokens, numTokens }: Sequence): number {
  return Math.min(mostCost, 2 * promptTokens.length + maxTokens - numTokens)
}
