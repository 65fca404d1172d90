// The small inputs of the decoder graph that say what a run computes: token ids, lengths, and of how many
// tokens logits are wanted. Overwritten before each run.

import type { ScaledRankOne } from '../contracts/adapter.ts'
import { wantedTokens } from '../graph/embedding.ts'
import { type AnyTensor, allocateTensor } from '../runtime/session.ts'

export interface PrefillInput {
  readonly row: number
  readonly tokens: readonly number[]
  /** Tokens of this row already in the cache. */
  readonly past: number
  readonly components: readonly ScaledRankOne[]
  /** Of how many of the last tokens logits are wanted; 1 unless said. */
  readonly numLogits?: number
}

/** A row's one new token. */
export interface StepRow {
  readonly token: number
  readonly past: number
}

export interface DecodeRow extends StepRow {
  readonly components: readonly ScaledRankOne[]
}

/** `rows`: most rows of a decode step. `maxChunk`: most new tokens in one prefill. */
export function createStepInputs(rows: number, maxChunk: number) {
  const ids = allocateTensor('int64', [Math.max(rows, maxChunk)])
  /** Tokens of each row with its new ones, less one. */
  const seqlens = allocateTensor('int32', [rows])
  /** Of the longest row. */
  const total = allocateTensor('int32', [])
  /** Where the tokens whose logits are wanted begin, counted from the end. */
  const firstLogits = allocateTensor('int64', [1])
  /** Tokens whose logits are wanted of a verdict, and of all other runs: all. */
  const wanted = allocateTensor('int64', [2])
  const allWanted = allocateTensor('int64', [1])
  allWanted.data[0] = -1n

  return {
    writePrefill({ tokens, past, numLogits = 1 }: PrefillInput): void {
      for (const [i, token] of tokens.entries()) ids.data[i] = BigInt(token)
      seqlens.data[0] = past + tokens.length - 1
      total.data[0] = past + tokens.length
      firstLogits.data[0] = BigInt(-numLogits)
    },

    writeDecode(batch: readonly StepRow[]): void {
      let longest = 0
      for (const [row, { token, past }] of batch.entries()) {
        ids.data[row] = BigInt(token)
        seqlens.data[row] = past
        longest = Math.max(longest, past + 1)
      }
      total.data[0] = longest
      firstLogits.data[0] = -1n
    },

    /** Of a verdict; null: logits of all tokens. */
    writeWanted(tokens: readonly [number, number] | null): void {
      for (const [i, token] of (tokens ?? [-1, -1]).entries()) wanted.data[i] = BigInt(token)
    },

    /** `count` rows with `tokens` new tokens each, under the names of the graph. */
    view(count: number, tokens: number, isVerdict = false): [string, AnyTensor][] {
      return [
        ['input_ids', ids.view([count, tokens])],
        ['seqlens_k', seqlens.view([count])],
        ['total_sequence_length', total.view([])],
        ['first_logits', firstLogits.view([1])],
        [wantedTokens, isVerdict ? wanted.view([2]) : allWanted.view([1])],
      ]
    },

    release(): void {
      for (const tensor of [ids, seqlens, total, firstLogits, wanted, allWanted]) tensor.release()
    },
  }
}
