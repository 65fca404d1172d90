// The KV cache as the loop uses it: how large it is, which prefix a sequence reuses and what it leaves
// for later ones. Rows and saved blocks share one number of positions; rows come first. What is copied
// between two steps is bounded, so that no running stream waits for it.

import { createKvRoom, type KvLimits } from './kv-shape.ts'
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

export type KvManager = ReturnType<typeof createKvManager>

export function createKvManager<Saved extends SavedBlock>(options: KvManagerOptions<Saved>) {
  const { runner, limits, maxCopy } = options
  const { positionBytes } = runner
  const prefixCache = createPrefixCache<Saved>({ maxBytes: 0 })
  const room = createKvRoom({ runner, limits, limitPrefixes: prefixCache.limit })
  /** How much of a sequence the prefix cache holds; null when it keeps no more of it. */
  const saved = new WeakMap<Sequence, PrefixPosition<Saved> | null>()

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
    ...room,
    get shape() {
      return room.shape
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
