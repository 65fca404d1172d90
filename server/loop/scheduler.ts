// Decides what the next step runs. Deterministic and without I/O: sequences go in, steps come out.
//
// Cache rows in use are always 0 … m − 1: first the decoding sequences, then at most one that is
// being prefilled. When a row falls free the rows behind it move up; the caller copies the cache.
//
// Prefill and decode take turns, so neither new nor running sequences starve. A turn of prefill has a
// budget of prompt tokens, not of sequences: several short prompts fit in one, a long one takes many.
// Who came first is served first; one that must wait for memory is not overtaken.

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

export type Scheduler = ReturnType<typeof createScheduler>

export function createScheduler(options: SchedulerOptions) {
  const { rows, maxChunk, maxLogitsChunk = maxChunk, maxCopy = Infinity } = options
  const { prefillBudget = () => maxChunk, tryAdmit = () => true, match = () => null } = options
  const waiting: Sequence[] = []
  const decoding: Sequence[] = []
  const arrivals = new WeakMap<Sequence, number>()
  let numArrived = 0
  let prefilling: Sequence | undefined
  /** Prompt tokens since the last decode step. */
  let budgetUsed = 0

  function running(): Sequence[] {
    return prefilling === undefined ? [...decoding] : [...decoding, prefilling]
  }

  function admit(): void {
    const [first] = waiting
    if (first === undefined || prefilling !== undefined || decoding.length >= rows) return
    if (tryAdmit(first, decoding)) prefilling = waiting.shift()
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
    return { kind: 'prefill', sequence, row: decoding.length, from, to }
  }

  /** The prompt of the sequence being prefilled has its keys and values: it decodes from now on. */
  function finishPrefill(): void {
    if (prefilling === undefined) throw new Error('no sequence is being prefilled')
    decoding.push(prefilling)
    prefilling = undefined
  }

  /** Takes a sequence out, wherever it is; returns the cache rows that must move, in order. */
  function remove(sequence: Sequence): RowMove[] {
    const at = waiting.indexOf(sequence)
    if (at >= 0) {
      waiting.splice(at, 1)
      return []
    }
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
      return waiting.length
    },
    get numRunning() {
      return decoding.length + (prefilling === undefined ? 0 : 1)
    },
    /** Sequences that hold a row. */
    running(): readonly Sequence[] {
      return running()
    },
    waiting(): readonly Sequence[] {
      return waiting
    },

    add(sequence: Sequence): void {
      arrivals.set(sequence, numArrived++)
      waiting.push(sequence)
    },

    /** What runs next. Null when there is nothing to do. */
    schedule(): Step | null {
      admit()
      const step = nextOfPrompt()
      if (step !== null) return step
      budgetUsed = 0
      return decoding.length > 0 ? { kind: 'decode', sequences: [...decoding] } : null
    },

    finishPrefill,

    remove,

    /** Of those that hold a row, who came last. */
    youngest(): Sequence | undefined {
      const arrival = (sequence: Sequence) => arrivals.get(sequence) ?? 0
      return running().reduce<Sequence | undefined>((youngest, sequence) => {
        return youngest && arrival(youngest) > arrival(sequence) ? youngest : sequence
      }, undefined)
    },

    /** The youngest gives its row up and is next to be admitted: it came before all that wait. */
    preempt(sequence: Sequence): RowMove[] {
      const moves = remove(sequence)
      waiting.unshift(sequence)
      return moves
    },
  }
}
