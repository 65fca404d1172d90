// A generation: what the front asks of the engine and the events it gets back.
// Order of events for one request: accepted, then prompt where the request asks of its prompt, then
// delta and choice_finished in any interleaving of
// its choices, then exactly one terminal event (done | failed | cancelled). failed and cancelled may
// also come first.

import type { ErrorBody } from '../errors.ts'
import type { AdapterSelection, AppliedAdapter } from './adapter.ts'

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

export type Prompt =
  | { readonly kind: 'messages'; readonly messages: readonly ChatMessage[] }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'tokens'; readonly tokens: readonly number[] }

/** Every field is concrete: defaults were resolved at the border from the checkpoint's own. */
export interface SamplingParams {
  /** 0 is greedy. */
  readonly temperature: number
  readonly topP: number
  /** 0 keeps every token. */
  readonly topK: number
  readonly minP: number
  readonly presencePenalty: number
  readonly frequencyPenalty: number
  /** 1 changes nothing; counts prompt and output tokens (as vLLM does). */
  readonly repetitionPenalty: number
  /** Token id → added to its logit. */
  readonly logitBias: ReadonlyArray<readonly [number, number]>
  /** End tokens are suppressed until this many were generated. */
  readonly minTokens: number
  readonly ignoreEos: boolean
  readonly stop: readonly string[]
  readonly stopTokenIds: readonly number[]
  /** The stop string itself stays in the text when true. */
  readonly includeStopInOutput: boolean
  readonly seed: bigint
}

export interface GenerateRequest extends AdapterSelection {
  readonly id: string
  readonly prompt: Prompt
  readonly sampling: SamplingParams
  /** Number of choices; choice i is seeded with seed + i. */
  readonly n: number
  /** null: whatever the context leaves. 0: only what is asked of the prompt. */
  readonly maxTokens: number | null
  /** The text of the prompt comes back before the first choice. */
  readonly echo: boolean
  /** How many alternatives to report per token of the prompt; null: no logprobs of the prompt. */
  readonly promptLogprobs: number | null
  /** How many alternatives to report per token; null: no logprobs at all. */
  readonly topLogprobs: number | null
  /** Split text at </think> (chat). When false everything is `content` (plain completions). */
  readonly splitReasoning: boolean
}

export interface TokenLogprob {
  readonly id: number
  /** The token's own text; bytes that are no whole code point show as U+FFFD. */
  readonly token: string
  readonly bytes: readonly number[]
  readonly logprob: number
}

export interface TokenLogprobs extends TokenLogprob {
  readonly top: readonly TokenLogprob[]
}

/** One token of a prompt. Nothing foretells the first: it has no log-probability. */
export interface PromptTokenLogprobs extends Omit<TokenLogprobs, 'logprob'> {
  readonly logprob: number | null
  /** 1 is the most likely token. */
  readonly rank: number | null
}

type Section = 'reasoning' | 'content'
export type FinishReason = 'stop' | 'length'

interface ChoiceUsage {
  readonly completionTokens: number
  readonly reasoningTokens: number
}

export interface GenerationTiming {
  /** From submission in the engine until its first prefill. */
  readonly queueMs: number
  readonly prefillMs: number
  readonly decodeMs: number
}

export type GenerationEvent =
  | {
      readonly kind: 'accepted'
      readonly promptTokens: number
      readonly adapters: readonly AppliedAdapter[]
    }
  | {
      readonly kind: 'prompt'
      /** The first choice of this prompt. */
      readonly index: number
      readonly text: string
      readonly logprobs: readonly PromptTokenLogprobs[] | null
    }
  | {
      readonly kind: 'delta'
      readonly index: number
      readonly section: Section
      /** May be empty when tokens came whose text is held back (half a code point, half a stop string). */
      readonly text: string
      /** Tokens sampled since the last delta of this choice; several when text was held back. */
      readonly numTokens: number
      readonly logprobs: readonly TokenLogprobs[] | null
    }
  | {
      readonly kind: 'choice_finished'
      readonly index: number
      readonly reason: FinishReason
      /** The stop string or stop token id that ended it; null for the end token or the length. */
      readonly stopReason: string | number | null
      readonly usage: ChoiceUsage
    }
  | {
      readonly kind: 'done'
      readonly timing: GenerationTiming
      /** Prompt tokens that were prefix-cache hits, of earlier or running requests. */
      readonly cachedTokens: number
    }
  | { readonly kind: 'failed'; readonly error: ErrorBody }
  | { readonly kind: 'cancelled' }

export const isTerminal = (event: GenerationEvent): boolean =>
  event.kind === 'done' || event.kind === 'failed' || event.kind === 'cancelled'
