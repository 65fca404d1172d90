// Decides what the next step runs. Pure: sequences go in, steps come out.
//
// Cache rows in use are always 0 … m − 1: first the decoding sequences, then at most one that is
// being prefilled. When a row falls free the rows behind it move up; the caller copies the cache.
// Prefill chunks and decode steps take turns, so neither new nor running sequences starve.

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
}

/** A lone token runs other kernels, which round differently: a chunk has two, where it can. */
export const minChunk = 2

/** Where the chunk that begins at `from` ends, so that no lone token is left for the next. */
export function chunkEnd(from: number, length: number, maxChunk: number): number {
  const end = Math.min(from + maxChunk, length)
  const left = length - end
  return left > 0 && left < minChunk && end - from > minChunk ? end - 1 : end
}

export type Scheduler = ReturnType<typeof createScheduler>

export function createScheduler({ rows, maxChunk }: SchedulerOptions) {
  const waiting: Sequence[] = []
  const decoding: Sequence[] = []
  let prefilling: Sequence | undefined
  let lastKind: Step['kind'] = 'decode'

  return {
    get numWaiting() {
      return waiting.length
    },
    get numRunning() {
      return decoding.length + (prefilling === undefined ? 0 : 1)
    },
    /** Sequences that hold a row. */
    running(): readonly Sequence[] {
      return prefilling === undefined ? [...decoding] : [...decoding, prefilling]
    },
    waiting(): readonly Sequence[] {
      return waiting
    },

    add(sequence: Sequence): void {
      waiting.push(sequence)
    },

    /** First come, first served. Null when there is nothing to do. */
    next(): Step | null {
      if (prefilling === undefined && decoding.length < rows) prefilling = waiting.shift()
      const mayDecode = decoding.length > 0
      if (prefilling !== undefined && !(mayDecode && lastKind === 'prefill')) {
        lastKind = 'prefill'
        const from = prefilling.numComputed
        const to = chunkEnd(from, prefilling.promptTokens.length, maxChunk)
        return { kind: 'prefill', sequence: prefilling, row: decoding.length, from, to }
      }
      lastKind = 'decode'
      return mayDecode ? { kind: 'decode', sequences: [...decoding] } : null
    },

    /** The prompt of the sequence being prefilled is wholly computed. */
    finishPrefill(): void {
      if (prefilling === undefined) throw new Error('no sequence is being prefilled')
      decoding.push(prefilling)
      prefilling = undefined
    },

    /** Takes a sequence out, wherever it is; returns the cache rows that must move, in order. */
    remove(sequence: Sequence): RowMove[] {
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
    },
  }
}
