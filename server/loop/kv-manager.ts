// The KV cache as the loop uses it: how large it is, what a sequence takes over from earlier ones and
// what it leaves for later ones. Rows and saved blocks share one number of positions; rows come first.
// Whatever is copied between two steps is bounded, so that no running stream waits for it.

import {
  firstShape,
  fits,
  type KvLimits,
  type KvShape,
  numPositions,
  shapeFor,
} from './kv-shape.ts'
import { blockTokens, commonLength, createPrefixCache, type SavedBlock } from './prefix-cache.ts'
import { chunkMultiple, minChunk } from './scheduler.ts'
import type { Sequence } from './sequence.ts'
import type { StepRunner } from './step-runner.ts'

export interface KvManagerOptions<Saved extends SavedBlock> {
  readonly runner: StepRunner<Saved>
  readonly limits: KvLimits
  /** Most positions that are copied between two steps. */
  readonly maxCopy: number
}

/** Positions that a sequence finds free when it is admitted; it may get more later. */
const reserve = 256

export function createKvManager<Saved extends SavedBlock>({
  runner,
  limits,
  maxCopy,
}: KvManagerOptions<Saved>) {
  const { positionBytes } = runner
  let shape = firstShape(limits)
  const bytesLeft = ({ rows, capacity }: KvShape) =>
    (limits.maxPositions - rows * capacity) * positionBytes
  const prefixCache = createPrefixCache<Saved>({ maxBytes: bytesLeft(shape) })

  function reshape(next: KvShape, running: readonly Sequence[]): void {
    if (next === shape) return
    prefixCache.limit(bytesLeft(next))
    runner.reshape(
      next,
      running.map(({ numComputed }) => numComputed),
    )
    shape = next
  }

  /** Positions that a sequence must have to be admitted. */
  const neededFirst = (sequence: Sequence) => {
    const end = sequence.promptTokens.length + sequence.maxTokens
    return Math.min(end, limits.maxCapacity, sequence.numTokens + reserve)
  }
  /** Positions that its next step needs; a prompt is given its whole length at once. */
  const neededNow = (sequence: Sequence) =>
    Math.max(sequence.promptTokens.length, sequence.numComputed + 1)

  /** The most that another sequence of the same key, or the blocks, have of a sequence's beginning. */
  function findSource(sequence: Sequence, running: readonly Sequence[], limit: number) {
    const { cacheKey } = sequence
    const wanted = sequence.tokens(0, limit)
    const found = prefixCache.find(cacheKey, wanted)
    let source: { length: number; row: number | null } = { length: found.place.length, row: null }
    for (const [row, other] of running.entries()) {
      if (other === sequence || other.cacheKey !== cacheKey) continue
      const length = commonLength(other.tokens(0, other.numComputed), wanted)
      if (length > source.length) source = { length, row }
    }
    return { ...source, blocks: found.blocks }
  }

  /** Where a sequence may go on after taking `length` positions over: where a chunk may begin. */
  function resumeAt(sequence: Sequence, length: number): number {
    const prompt = sequence.promptTokens.length
    if (length >= prompt) return length
    const end = Math.min(length, Math.max(0, prompt - minChunk))
    return end - (end % chunkMultiple)
  }

  return {
    get shape() {
      return shape
    },

    mayAdmit(sequence: Sequence, running: readonly Sequence[]): boolean {
      const capacity = Math.max(neededFirst(sequence), ...running.map(neededNow))
      return running.length === 0 || fits({ rows: running.length + 1, capacity }, limits)
    },

    /** Grows for the next step of these rows; false when they do not all fit. */
    tryHold(running: readonly Sequence[]): boolean {
      if (running.length === 0) return true
      const need = { rows: running.length, capacity: Math.max(...running.map(neededNow)) }
      if (running.length > 1 && !fits(need, limits)) return false
      reshape(shapeFor(need, shape, limits), running)
      return true
    },

    /** Nothing runs: gives memory back. */
    shrink(): void {
      const first = firstShape(limits)
      if (numPositions(shape) > numPositions(first)) reshape(first, [])
      prefixCache.limit(bytesLeft(shape))
    },

    /**
     * Takes over what was computed before, a bounded piece at a time. True when there is more to take.
     */
    take(sequence: Sequence, row: number, running: readonly Sequence[]): boolean {
      if (sequence.needsPromptLogits || sequence.numReused !== sequence.numComputed) return false
      // At least the last token has to be computed: it tells the next one.
      const source = findSource(sequence, running, sequence.numTokens - 1)
      const start = sequence.numComputed
      const goal = resumeAt(sequence, source.length)
      if (goal <= start) return false
      const end = Math.min(goal, start + maxCopy)
      if (source.row !== null) runner.copyRow(source.row, row, start, end - start)
      else {
        for (let at = start - (start % blockTokens); at < end; at += blockTokens) {
          runner.restorePositions(source.blocks[at / blockTokens] as Saved, row, at)
        }
      }
      sequence.numComputed = end
      sequence.numReused = end
      if (sequence.numPreempted === 0) sequence.numCachedTokens = end
      return end < goal
    },

    /** Keeps the whole blocks of what a sequence has computed. */
    save(sequence: Sequence, row: number): void {
      if (sequence.saved === null) return
      let place = (sequence.saved ?? prefixCache.rootPosition(sequence.cacheKey)) as ReturnType<
        typeof prefixCache.rootPosition
      > | null
      while (place !== null && place.length + blockTokens <= sequence.numComputed) {
        const from: number = place.length
        const tokens = sequence.tokens(from, from + blockTokens)
        place = prefixCache.add(place, tokens, blockTokens * positionBytes, () =>
          runner.savePositions(row, from, blockTokens),
        )
      }
      sequence.saved = place
    },

    /** Share of the positions that the running sequences take; every row is as long as the longest. */
    usage(running: readonly Sequence[]): number {
      const longest = Math.max(0, ...running.map(({ numComputed }) => numComputed))
      return (running.length * longest) / limits.maxPositions
    },
  }
}
