// The log-probabilities of one prompt while it is computed, chunk by chunk.

import type { PromptLogprobs } from '../contracts/prompt-logprobs.ts'
import { logprobsOf } from '../sampling/logprobs.ts'
import type { TokenText } from './output.ts'

export interface PromptRecordOptions {
  readonly tokens: readonly number[]
  readonly tokenizer: Pick<TokenText, 'tokenText' | 'tokenBytes'>
  /** Alternatives of each token. */
  readonly numTop: number
}

export type PromptRecord = ReturnType<typeof createPromptRecord>

export function createPromptRecord({ tokens, tokenizer, numTop }: PromptRecordOptions) {
  const width = 1 + numTop
  const words = new Int32Array(tokens.length * width)
  const logprobs = new Float64Array(tokens.length * width)
  const ranks = new Int32Array(tokens.length)
  /** Token id → its place. */
  const places = new Map<number, number>()
  const texts: string[] = []

  function placeOf(id: number): number {
    const known = places.get(id)
    if (known !== undefined) return known
    places.set(id, texts.length)
    texts.push(tokenizer.tokenText(id))
    return texts.length - 1
  }

  words[0] = placeOf(tokens[0]!)

  return {
    /** Takes the logits [vocab] that foretell the token at `position`. */
    add(position: number, logits: Float32Array): void {
      const { sampled, rank, top } = logprobsOf(logits, tokens[position]!, numTop)
      ranks[position] = rank
      for (const [i, { id, logprob }] of [sampled, ...top].entries()) {
        words[position * width + i] = placeOf(id)
        logprobs[position * width + i] = logprob
      }
    },

    toTable(): PromptLogprobs {
      const pieces = tokens.map((id) => Uint8Array.from(tokenizer.tokenBytes(id)))
      let end = 0
      const ends = Int32Array.from(pieces, ({ length }) => (end += length))
      const bytes = new Uint8Array(Buffer.concat(pieces))
      const ids = Int32Array.from(places.keys())
      return { numTop, words, logprobs, ranks, ids, texts, bytes, ends }
    },
  }
}
