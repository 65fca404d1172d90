// Decides what the next step runs. Pure: sequences go in, steps come out.
//
// Cache rows in use are always 0 … m − 1: first the decoding sequences, then at most one that is
// being prefilled. When a row falls free the rows behind it move up; the caller copies the cache.
//
// Prefill and decode take turns, so neither new nor running sequences starve. A turn of prefill is a
// number of prompt tokens, not of sequences: several short prompts fit in one, a long one takes many.
// Who came first is served first; one that must wait for memory is not overtaken.

import type { Sequence } from './sequence.ts'

export type Step =
  | {
      readonly kind: 'prefill'
      readonly sequence: Sequence
      readonly row: number
      /** Prompt tokens [from, to) are computed. */
      readonly from: number
      readonly to: number
    }
  /** sequences[i] is in row i. */
  | { readonly kind: 'decode'; readonly sequences: readonly Sequence[] }

export interface RowMove {
  readonly from: number
  readonly to: number
  /** Positions in use. */
  readonly length: number
}

export interface SchedulerOptions {
  readonly rows: number
  readonly maxChunk: number
  /** Prompt tokens that may be computed between two decode steps; maxChunk unless said. */
  readonly prefillBudget?: () => number
  /** Whether there is memory for one more beside those that hold a row. */
  readonly mayAdmit?: (sequence: Sequence, running: readonly Sequence[]) => boolean
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
  const { rows, maxChunk, prefillBudget = () => maxChunk, mayAdmit = () => true } = options
  const waiting: Sequence[] = []
  const decoding: Sequence[] = []
  const arrivals = new WeakMap<Sequence, number>()
  let numArrived = 0
  let prefilling: Sequence | undefined
  /** Prompt tokens since the last decode step. */
  let budgetUsed = 0

  const running = () => (prefilling === undefined ? [...decoding] : [...decoding, prefilling])

  function admit(): void {
    const [first] = waiting
    if (first === undefined || prefilling !== undefined || decoding.length >= rows) return
    if (mayAdmit(first, decoding)) prefilling = waiting.shift()
  }

  /** The next chunk of the prompt being prefilled; null where it is the others' turn. */
  function nextChunk(): Step | null {
    if (prefilling === undefined) return null
    const from = prefilling.numComputed
    const length = prefilling.promptTokens.length
    const turn = Math.min(prefillBudget(), maxChunk)
    const left = decoding.length > 0 ? turn - budgetUsed : maxChunk
    // A smaller rest of a turn is left to the next one, unless it is all that the prompt needs.
    if (left < Math.min(chunkMultiple, turn, length - from)) return null
    const to = chunkEnd(from, length, Math.min(left, maxChunk))
    budgetUsed += to - from
    return { kind: 'prefill', sequence: prefilling, row: decoding.length, from, to }
  }

  /** Takes a sequence out, wherever it is; returns the cache rows that must move, in order. */
  function remove(sequence: Sequence): RowMove[] {
    const place = waiting.indexOf(sequence)
    if (place >= 0) {
      waiting.splice(place, 1)
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

    /** First come, first served. Null when there is nothing to do. */
    next(): Step | null {
      admit()
      const chunk = nextChunk()
      if (chunk !== null) return chunk
      budgetUsed = 0
      return decoding.length > 0 ? { kind: 'decode', sequences: [...decoding] } : null
    },

    /** The prompt of the sequence being prefilled is wholly computed. */
    finishPrefill(): void {
      if (prefilling === undefined) throw new Error('no sequence is being prefilled')
      decoding.push(prefilling)
      prefilling = undefined
    },

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
