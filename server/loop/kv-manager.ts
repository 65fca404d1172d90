// The KV cache as the loop uses it: how large it is, which prefix a sequence reuses and what it leaves
// for later ones. Rows and saved blocks share one number of positions; rows come first. What is copied
// between two steps is bounded, so that no running stream waits for it.

import {
  firstShape,
  fits,
  isWithin,
  type KvLimits,
  type KvShape,
  numPositions,
  shapeFor,
} from './kv-shape.ts'
import { chunkMultiple, minChunk, type PrefixHit } from './prefill-turn.ts'
import {
  blockTokens,
  commonLength,
  createPrefixCache,
  type PrefixPosition,
  type SavedBlock,
} from './prefix-cache.ts'
import { markOf, sharedLength } from './segments.ts'
import type { Sequence } from './sequence.ts'
import type { StepRunner } from './step-runner.ts'

export interface KvManagerOptions<Saved extends SavedBlock> {
  readonly runner: StepRunner<Saved>
  readonly limits: KvLimits
  /** Most positions that one step copies; a multiple of a block. */
  readonly maxCopy: number
}

/** Positions that a sequence finds free when it is admitted; it may get more later. */
const reserve = 256
/** So many positions before its end the cache begins to grow; more than the steps that takes. */
const ahead = 128
/** Bytes that growing copies between two steps. */
const maxMoveBytes = 16 << 20

export type KvManager = ReturnType<typeof createKvManager>

export function createKvManager<Saved extends SavedBlock>(options: KvManagerOptions<Saved>) {
  const { runner, limits, maxCopy } = options
  const { positionBytes } = runner
  let shape = firstShape(limits)
  /** What it grows to while steps run, part by part; null: it does not. */
  let target: KvShape | null = null
  const prefixCache = createPrefixCache<Saved>({ maxBytes: bytesLeft(shape) })
  /** How much of a sequence the prefix cache holds; null when it keeps no more of it. */
  const saved = new WeakMap<Sequence, PrefixPosition<Saved> | null>()

  function bytesLeft({ rows, capacity }: KvShape): number {
    return (limits.maxPositions - rows * capacity) * positionBytes
  }

  function reshape(next: KvShape, running: readonly Sequence[]): void {
    if (next === shape) return
    prefixCache.limit(bytesLeft(next))
    runner.reshape(next, lengthsOf(running))
    shape = next
    target = null
  }

  /** Moves a part of it to the target; whether it is all there. */
  function growOn(running: readonly Sequence[]): boolean {
    if (target === null) return true
    if (!runner.reshapePart!(target, lengthsOf(running), maxMoveBytes)) return false
    shape = target
    target = null
    return true
  }

  /** Begins to grow to what is needed, where the model can while steps run. */
  function growTo(need: KvShape, running: readonly Sequence[]): boolean {
    if (runner.reshapePart === undefined || !fits(need, limits)) return false
    const next = shapeFor(need, shape, limits)
    if (next === shape || next.rows < shape.rows || next.capacity < shape.capacity) return false
    prefixCache.limit(bytesLeft(next))
    target = next
    growOn(running)
    return true
  }

  /** Positions that a sequence must have to be admitted. */
  function neededFirst({ mostPositions, numTokens }: Sequence): number {
    return Math.min(mostPositions, limits.maxCapacity, numTokens + reserve)
  }

  /** Positions that its next step needs; a prompt is given its whole length at once. */
  function neededNow({ promptTokens, numComputed }: Sequence): number {
    return Math.min(limits.maxCapacity, Math.max(promptTokens.length, numComputed + 1))
  }

  /** Positions that the steps after it need. */
  function neededSoon(sequence: Sequence): number {
    const most = Math.min(limits.maxCapacity, sequence.mostPositions)
    return Math.max(neededNow(sequence), Math.min(most, sequence.numComputed + ahead))
  }

  /** Grows for the next step of these rows; false when they do not all fit. */
  function hold(running: readonly Sequence[]): boolean {
    if (running.length === 0) return true
    const need = { rows: running.length, capacity: Math.max(...running.map(neededNow)) }
    if (running.length > 1 && !fits(need, limits)) return false
    if (isWithin(need, shape)) return true
    reshape(shapeFor(need, target ?? shape, limits), running)
    return true
  }

  /** The same, and goes on growing for the steps after it. */
  function tryHold(running: readonly Sequence[]): boolean {
    if (!hold(running)) return false
    if (target !== null) growOn(running)
    else if (running.length > 0) {
      growTo({ rows: running.length, capacity: Math.max(...running.map(neededSoon)) }, running)
    }
    return true
  }

  /** The longest prefix of `limit` tokens that a running sequence or the blocks have, adapters and all. */
  function findSource(sequence: Sequence, running: readonly Sequence[], limit: number) {
    const { segments } = sequence
    const wanted = sequence.tokens(0, limit)
    const { position, blocks } = prefixCache.find(segments[0]!.key, wanted, (from, to) =>
      markOf(segments, from, to),
    )
    let source: { length: number; row: number | null } = { length: position.length, row: null }
    for (const [row, other] of running.entries()) {
      if (other === sequence) continue
      const alike = Math.min(other.numComputed, sharedLength(segments, other.segments))
      if (alike <= source.length) continue
      const length = commonLength(other.tokens(0, alike), wanted)
      if (length > source.length) source = { length, row }
    }
    return { ...source, blocks }
  }

  /** Where a sequence may go on after reusing `length` positions: where a chunk may begin. */
  function resumeAt({ promptTokens }: Sequence, length: number): number {
    const prompt = promptTokens.length
    if (length >= prompt) return length
    const end = Math.min(length, Math.max(0, prompt - minChunk))
    return end - (end % chunkMultiple)
  }

  return {
    get shape() {
      return shape
    },

    tryHold,

    /**
     * Grows for one more sequence; false when there is no memory for its prompt and a reserve, "soon" where
     * the cache is growing while the others run.
     */
    tryAdmit(sequence: Sequence, running: readonly Sequence[]): boolean | 'soon' {
      const capacity = Math.max(neededFirst(sequence), ...running.map(neededNow))
      const need = { rows: running.length + 1, capacity }
      if (running.length > 0 && !fits(need, limits)) return false
      const wanted = {
        rows: need.rows,
        capacity: Math.max(...[...running, sequence].map(neededNow)),
      }
      if (running.length === 0 || isWithin(wanted, shape)) return hold([...running, sequence])
      if (target !== null) return 'soon'
      if (!growTo(wanted, running)) return hold([...running, sequence])
      return target === null ? true : 'soon'
    },

    /** Nothing runs: gives memory back. */
    shrink(): void {
      const first = firstShape(limits)
      if (target !== null || numPositions(shape) > numPositions(first)) reshape(first, [])
      prefixCache.limit(bytesLeft(shape))
    },

    /** The next piece of a sequence's prefix that can be copied; null when there is no more of it. */
    match(sequence: Sequence, running: readonly Sequence[]): PrefixHit | null {
      if (!sequence.mayReuse) return null
      // At least the last token has to be computed: it tells the next one.
      const source = findSource(sequence, running, sequence.numTokens - 1)
      const from = sequence.numComputed
      const goal = resumeAt(sequence, source.length)
      if (goal <= from) return null
      const to = Math.min(goal, from + maxCopy)
      const { row: sourceRow, blocks } = source
      return {
        from,
        to,
        copyTo(row) {
          if (sourceRow !== null) return runner.copyRow(sourceRow, row, from, to - from)
          for (let at = from - (from % blockTokens); at < to; at += blockTokens) {
            runner.restorePositions(blocks[at / blockTokens]!, row, at)
          }
        },
      }
    },

    /** Keeps the whole blocks of what a sequence has computed. */
    save(sequence: Sequence, row: number): void {
      let position = saved.get(sequence)
      if (position === null) return
      const { segments } = sequence
      position ??= prefixCache.rootPosition(segments[0]!.key)
      while (position !== null && position.length + blockTokens <= sequence.numComputed) {
        const from: number = position.length
        const tokens = sequence.tokens(from, from + blockTokens)
        const save = () => runner.savePositions(row, from, blockTokens)
        const mark = markOf(segments, from, from + blockTokens)
        position = prefixCache.add(position, tokens, blockTokens * positionBytes, save, mark)
      }
      saved.set(sequence, position)
    },

    /** The sequence gave its row up: what it saves begins anew. */
    forget(sequence: Sequence): void {
      saved.delete(sequence)
    },

    /** Share of the positions that the running sequences take; every row is as long as the longest. */
    usage(running: readonly Sequence[]): number {
      const longest = Math.max(0, ...running.map(({ numComputed }) => numComputed))
      return (running.length * longest) / limits.maxPositions
    },
  }
}

function lengthsOf(running: readonly Sequence[]): number[] {
  return running.map(({ numComputed }) => numComputed)
}
