// What is told of a prompt itself: its text, and the log-probabilities of its tokens, which are recorded
// while it is computed, chunk by chunk.

import type { GenerateRequest, GenerationEvent } from '../contracts/generation.ts'
import type { PromptLogprobs } from '../contracts/prompt-logprobs.ts'
import { logprobsOf, type RankedPlace } from '../sampling/logprobs.ts'
import type { TokenText } from './output.ts'

export interface PromptReportOptions {
  readonly request: GenerateRequest
  readonly index: number
  readonly promptTokens: readonly number[]
  /** Shown again where the request wants its prompt echoed. */
  readonly promptText: string
  readonly tokenizer: PromptRecordOptions['tokenizer']
}

export function createPromptReport(options: PromptReportOptions) {
  const { request, index, promptTokens: tokens, tokenizer, promptText: text } = options
  /** Choices share a prompt: only choice 0 reports it. */
  const asks = request.echo || request.promptLogprobs !== null || request.returnTokenIds
  const isWanted = index === 0 && asks
  const ids = request.returnTokenIds ? { tokenIds: tokens } : {}
  let record: PromptRecord | undefined
  let isTold = false

  return {
    /** Every token's log-probability is wanted, so all of the prompt must be computed. */
    get needsLogits() {
      return index === 0 && request.promptLogprobs !== null && !isTold
    },
    /** Takes the logits after the token at `position`, which foretell the next. */
    accept(position: number, logits: Float32Array): void {
      // A prompt that gave up its row is recorded anew.
      if (position === 0) {
        const numTop = Math.min(request.promptLogprobs ?? 0, logits.length)
        record = createPromptRecord({ tokens, tokenizer, numTop })
      }
      const next = tokens[position + 1]
      if (next !== undefined) record?.add(position + 1, logprobsOf(logits, next, record.numTop))
    },
    /** Takes all places at once, from the second token on. */
    acceptPlaces(places: readonly RankedPlace[]): void {
      record = createPromptRecord({ tokens, tokenizer, numTop: request.promptLogprobs ?? 0 })
      for (const [i, place] of places.entries()) record.add(i + 1, place)
    },
    /** Once, when the prompt is computed. */
    tell(): GenerationEvent[] {
      if (!isWanted || isTold) return []
      isTold = true
      return [{ kind: 'prompt', index, text, logprobs: record?.toTable() ?? null, ...ids }]
    },
  }
}

interface PromptRecordOptions {
  readonly tokens: readonly number[]
  readonly tokenizer: Pick<TokenText, 'tokenText' | 'tokenBytes'>
  /** Alternatives of each token. */
  readonly numTop: number
}

type PromptRecord = ReturnType<typeof createPromptRecord>

function createPromptRecord({ tokens, tokenizer, numTop }: PromptRecordOptions) {
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
    numTop,
    /** Takes what was foretold of the token at `position`. */
    add(position: number, { sampled, rank, top }: RankedPlace): void {
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
