// One choice of a request: its tokens, how many of them have keys and values, and what it says.
// It owns its counters: callers say what happened, nobody else assigns them.

import type { ScaledRankOne } from '../contracts/adapter.ts'
import type { GenerationEvent } from '../contracts/generation.ts'
import { createOutput, type OutputOptions } from './output.ts'
import { createPromptRecord, type PromptRecord } from './prompt-record.ts'

export interface SequenceOptions extends OutputOptions {
  readonly components: readonly ScaledRankOne[]
  /** Sequences of one key compute the same keys and values for the same tokens. */
  readonly cacheKey: string
  /** Shown again where the request wants its prompt echoed. */
  readonly promptText: string
}

export type Sequence = ReturnType<typeof createSequence>

export function createSequence(options: SequenceOptions) {
  const { request, index, promptTokens, tokenizer, maxTokens } = options
  const output = createOutput(options)
  /** Choices share a prompt: only choice 0 reports it. */
  const reportsPrompt = index === 0 && (request.echo || request.promptLogprobs !== null)
  let promptRecord: PromptRecord | undefined
  let numComputed = 0
  let numReused = 0
  let numCachedTokens = 0
  let numPreempted = 0

  /** A prompt that gave up its row is recorded anew. */
  function startRecord(vocabSize: number): PromptRecord {
    const numTop = Math.min(request.promptLogprobs ?? 0, vocabSize)
    return createPromptRecord({ tokens: promptTokens, tokenizer, numTop })
  }

  return {
    request,
    index,
    promptTokens,
    components: options.components,
    cacheKey: options.cacheKey,
    maxTokens,

    // ---- Tokens ----

    /** Prompt and generated tokens. */
    get numTokens() {
      return promptTokens.length + output.tokens.length
    },
    tokenAt(position: number): number {
      const token = promptTokens[position] ?? output.tokens[position - promptTokens.length]
      if (token === undefined) throw new RangeError(`there is no token ${position}`)
      return token
    },
    /** Tokens [from, to), prompt and generated. */
    tokens(from: number, to: number): number[] {
      const beforeOutput = promptTokens.slice(from, to)
      const start = Math.max(0, from - promptTokens.length)
      return [...beforeOutput, ...output.tokens.slice(start, Math.max(0, to - promptTokens.length))]
    },

    // ---- Keys and values ----

    /** Tokens whose keys and values are in its row of the KV cache. */
    get numComputed() {
      return numComputed
    },
    /** Of these, prefix-cache hits since it last got a row. */
    get numReused() {
      return numReused
    },
    /** Prefix-cache hits when it first ran; what `cached_tokens` says. */
    get numCachedTokens() {
      return numCachedTokens
    },
    /** How often it was preempted. */
    get numPreempted() {
      return numPreempted
    },
    /** A step computed the keys and values up to `to`. */
    advance(to: number): void {
      numComputed = to
    },
    /** A copy brought the keys and values up to `to`. */
    reuse(to: number): void {
      numComputed = to
      numReused = to
      if (numPreempted === 0) numCachedTokens = to
    },
    /** Gives its row up. The tokens it has stay; their keys and values are computed again. */
    preempt(): void {
      numComputed = 0
      numReused = 0
      numPreempted++
    },
    /** Every token's log-probability is wanted, so all of the prompt must be computed. */
    get needsPromptLogits() {
      return index === 0 && request.promptLogprobs !== null && output.tokens.length === 0
    },
    /** It was preempted after its first token and has generated tokens to compute again. */
    get isRecomputing() {
      return output.tokens.length > 0 && numComputed < promptTokens.length + output.tokens.length
    },
    /** Nothing but prefix-cache hits so far: there may be more of them. */
    get mayReuse() {
      return numReused === numComputed && !this.needsPromptLogits
    },

    // ---- What it says ----

    get isFinished() {
      return output.isFinished
    },
    /** Takes the logits after the prompt's token at `position`, which foretell the next. */
    acceptPromptLogits(position: number, logits: Float32Array): void {
      if (position === 0) promptRecord = startRecord(logits.length)
      if (position + 1 < promptTokens.length) promptRecord?.add(position + 1, logits)
    },
    /** What there is to tell once the prompt is computed. */
    finishPrompt(): GenerationEvent[] {
      const events: GenerationEvent[] = []
      if (reportsPrompt) {
        const logprobs = promptRecord?.toTable() ?? null
        events.push({ kind: 'prompt', index, text: options.promptText, logprobs })
      }
      if (maxTokens === 0) events.push(output.finishEmpty())
      return events
    },
    /** Samples the next token from its logits [vocab]; see `createOutput`. */
    accept(logits: Float32Array, blockMax: Float32Array | null = null): GenerationEvent[] {
      return output.accept(logits, blockMax)
    },
  }
}
