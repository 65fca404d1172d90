// What of a prompt runs between two decode steps: copies of what is there already, and chunks. A turn has
// a budget of prompt tokens.

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

export interface PrefillTurnOptions {
  readonly maxChunk: number
  /** Longest chunk where the logits of each of its tokens are wanted. */
  readonly maxLogitsChunk?: number
  /** Positions of a copy that takes a whole turn. */
  readonly maxCopy?: number
  /** Prompt tokens that may be computed between two decode steps; maxChunk unless said. */
  readonly prefillBudget?: () => number
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

export function createPrefillTurn(options: PrefillTurnOptions) {
  const { maxChunk, maxLogitsChunk = maxChunk, maxCopy = Infinity } = options
  const { prefillBudget = () => maxChunk } = options
  /** Prompt tokens since the last decode step. */
  let used = 0

  function turn(): number {
    return Math.min(prefillBudget(), maxChunk)
  }

  /** Nobody waits for a prompt in the first row. */
  function left(row: number): number {
    return row > 0 ? turn() - used : maxChunk
  }

  return {
    /** Null where it must wait for the next turn. The longest copy is worth a whole turn. */
    copy(sequence: Sequence, row: number, hit: PrefixHit): CopyStep | null {
      const cost = Math.ceil((turn() * (hit.to - hit.from)) / maxCopy)
      if (left(row) < Math.min(cost, turn())) return null
      used += cost
      return { kind: 'copy', sequence, row, hit }
    },

    /** Null where it must wait for the next turn. */
    chunk(sequence: Sequence, row: number): PrefillStep | null {
      const from = sequence.numComputed
      const { length } = sequence.promptTokens
      // A smaller rest of a turn is left to the next one, unless it is all that the prompt needs.
      if (left(row) < Math.min(chunkMultiple, turn(), length - from)) return null
      const most = sequence.needsPromptLogits ? Math.min(left(row), maxLogitsChunk) : left(row)
      const to = chunkEnd(from, length, Math.min(most, maxChunk))
      // A run of fewer tokens takes about as long: it reads the weights all the same.
      used += Math.max(to - from, chunkMultiple)
      return { kind: 'prefill', sequence, row, from, to }
    },

    /** The others decode. */
    end(): void {
      used = 0
    },
  }
}
