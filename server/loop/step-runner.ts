// What the engine needs of a model: runs over the rows of its cache, and copies between two runs.

import type { ScaledRankOne } from '../contracts/adapter.ts'
import type { KvShape } from './kv-shape.ts'
import type { SavedBlock } from './prefix-cache.ts'

/** What a step needs of a model; the real one is model/runner, tests bring a scripted one. */
export interface StepRunner<Saved extends SavedBlock = SavedBlock> {
  prefill(input: {
    row: number
    tokens: readonly number[]
    past: number
    components: readonly ScaledRankOne[]
    numLogits: number
  }): Promise<Float32Array>
  decode(
    batch: ReadonlyArray<{
      token: number
      past: number
      components: readonly ScaledRankOne[]
    }>,
  ): Promise<Float32Array>
  /**
   * The largest logit of each block of the vocabulary, [positions × numBlocks], for what the last
   * run returned; null where the model does not tell.
   */
  readonly blockMax: Float32Array | null
  readonly numBlocks: number
  reshape(shape: KvShape, lengths: readonly number[]): void
  copyRow(from: number, to: number, start: number, count: number): void
  readonly positionBytes: number
  savePositions(row: number, start: number, count: number): Saved
  restorePositions(saved: Saved, row: number, start: number): void
}
