// One choice of a request: its tokens, how many of them have keys and values, and what it says.
// It owns its counters: callers say what happened, nobody else assigns them.

import type { ScaledRankOne } from '../contracts/adapter.ts'
import type { GrammarWalk } from '../contracts/constraint.ts'
import type { GenerationEvent } from '../contracts/generation.ts'
import type { SafetyPlan } from '../contracts/safety.ts'
import type { LabelLogits } from '../safety/guard.ts'
import type { SampledToken } from '../sampling/logprobs.ts'
import { createJudgedOutput, type JudgedOutputOptions, type Move } from './judged-output.ts'
import { createPromptReport, type PromptReportOptions } from './prompt-record.ts'
import { baseAdapters, type Segment } from './segments.ts'

export type SequenceOptions = JudgedOutputOptions & PromptReportOptions

export type Sequence = ReturnType<typeof createSequence>

export function createSequence(options: SequenceOptions) {
  const { request, index, promptTokens, maxTokens } = options
  const output = createJudgedOutput(options)
  const promptReport = createPromptReport(options)
  const kv = createKvProgress()

  return {
    request,
    index,
    promptTokens,
    maxTokens,
    /** Positions that all of it may take; one that is judged needs one more than its text. */
    mostPositions: promptTokens.length + maxTokens + (request.safety === null ? 0 : 1),

    // ---- Adapters ----

    get segments(): readonly Segment[] {
      return output.segments.list
    },
    componentsAt(position: number): readonly ScaledRankOne[] {
      return output.segments.at(position).components
    },

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
      return kv.numComputed
    },
    /** Of these, prefix-cache hits since it last got a row. */
    get numReused() {
      return kv.numReused
    },
    /** Prefix-cache hits when it first ran; what `cached_tokens` says. */
    get numCachedTokens() {
      return kv.numCachedTokens
    },
    /** How often it was preempted. */
    get numPreempted() {
      return kv.numPreempted
    },
    /** A step computed the keys and values up to `to`. */
    advance: kv.advance,
    /** A copy brought the keys and values up to `to`. */
    reuse: kv.reuse,
    /** Gives its row up. The tokens it has stay; their keys and values are computed again. */
    preempt: kv.drop,
    /** Every token's log-probability is wanted, so all of the prompt must be computed. */
    get needsPromptLogits() {
      return promptReport.needsLogits
    },
    /** It was preempted after its first token and has generated tokens to compute again. */
    get isRecomputing() {
      return output.tokens.length > 0 && kv.numComputed < promptTokens.length + output.tokens.length
    },
    /** Nothing but prefix-cache hits so far: there may be more of them. */
    get mayReuse() {
      return kv.numReused === kv.numComputed && !this.needsPromptLogits
    },

    // ---- What it says ----

    /** Its prompt is computed, perhaps once more after it gave up its row. */
    get hasBegun() {
      return output.hasBegun
    },
    /** It says no more of itself; a verdict may be due. */
    get isEnded() {
      return output.isEnded
    },
    /** Its end was told. */
    get isFinished() {
      return output.isFinished
    },
    /** The grammar that the next step's logits need, and that is not known yet; null: none is. */
    get missing(): GrammarWalk | null {
      const isLast = kv.numComputed + 1 >= promptTokens.length + output.tokens.length
      return isLast && output.walk !== null && isMissing(output.walk) ? output.walk : null
    },
    /** Takes the logits after the prompt's token at `position`, which foretell the next. */
    acceptPromptLogits: promptReport.accept,
    acceptPromptPlaces: promptReport.acceptPlaces,
    /** What there is to tell once the prompt is computed. */
    finishPrompt(): GenerationEvent[] {
      return [...promptReport.tell(), ...output.begin()]
    },
    /** Samples the next token from its logits [vocab]; see `createOutput`. */
    accept: (logits: Float32Array, blockMax: Float32Array | null = null) =>
      output.accept(logits, blockMax),
    acceptSampled: (token: SampledToken) => output.acceptSampled(token),

    // ---- Verdicts ----

    /** w · h of the last token that was computed. */
    acceptProbe(product: number): void {
      output.acceptProbe(kv.numComputed - promptTokens.length, product)
    },
    /** Position of the verdict that can be given now; null: none is due. */
    get verdictAt(): number | null {
      const numTokens = output.dueAt(kv.numComputed - promptTokens.length)
      return numTokens === null ? null : promptTokens.length + numTokens
    },
    /** Its verdict can wait for no more company. */
    get isPressing() {
      return output.isPressing(kv.numComputed - promptTokens.length)
    },
    /** What reads the text of the next verdict on the base, where that is to be; null: nothing. */
    takeReading(): SequenceOptions | null {
      const numTokens = output.takeReading()
      if (numTokens === null) return null
      return readingOf(options, this.tokens(0, promptTokens.length + numTokens))
    },
    /** It has said all, and needs no row while it waits for what is read. */
    get awaitsReading() {
      return output.awaitsReading
    },
    /**
     * Takes the verdict that was due, as the logits of its labels; null: the guard gave none. `anew`: it must
     * give up its row, since all of its keys and values are others now.
     */
    judge(logits: LabelLogits | null): { events: readonly GenerationEvent[]; move: Move } {
      const { events, move } = output.judge(logits)
      if (move === 'back') kv.goBack(promptTokens.length + output.numKept)
      return { events, move }
    },
  }
}

/** How many tokens of a sequence have keys and values, and where those came from. */
function createKvProgress() {
  let numComputed = 0
  let numReused = 0
  let numCachedTokens = 0
  let numPreempted = 0

  return {
    get numComputed() {
      return numComputed
    },
    get numReused() {
      return numReused
    },
    get numCachedTokens() {
      return numCachedTokens
    },
    get numPreempted() {
      return numPreempted
    },
    advance(to: number): void {
      numComputed = to
    },
    reuse(to: number): void {
      numComputed = to
      numReused = to
      if (numPreempted === 0) numCachedTokens = to
    },
    /** Those after `to` are good no more. */
    goBack(to: number): void {
      numComputed = Math.min(numComputed, to)
    },
    /** The row is given up, and all of them with it. */
    drop(): void {
      numComputed = 0
      numReused = 0
      numPreempted++
    },
  }
}

/** One that failed is not missing: the sequence is to hear of it. */
function isMissing(walk: GrammarWalk): boolean {
  try {
    return walk.allowed === null
  } catch {
    return false
  }
}

/** A prompt of which nothing is generated, judged as the guard was measured: without adapters. */
function readingOf(options: SequenceOptions, promptTokens: readonly number[]): SequenceOptions {
  const request = {
    ...options.request,
    ...{ adapters: [], n: 1, maxTokens: 0, echo: false, promptLogprobs: null },
    safety: readingPlan,
  }
  const text = {
    promptTokens,
    promptText: '',
    adapters: baseAdapters,
    maxTokens: 0,
    grammar: null,
  } as const
  return { ...options, ...text, request, index: 0, phase: 'answering' }
}

const readingPlan: SafetyPlan = {
  ...{ input: 'observe', reply: 'off', every: 1, threshold: null },
  ...{ escalation: null, failure: 'open' },
}
