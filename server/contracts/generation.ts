// A generation: what the front asks of the engine and the events it gets back.
// Order of events for one request: accepted, then prompt where the request asks of its prompt, then
// delta and choice_finished in any interleaving of
// its choices, then exactly one terminal event (done | failed | cancelled). failed and cancelled may
// also come first.

import type { ErrorBody } from '../errors.ts'
import type { AdapterSelection, AppliedAdapter } from './adapter.ts'
import type { PromptLogprobs } from './prompt-logprobs.ts'

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

/** A chat, and what the client asks of its template. */
export interface ChatInput {
  readonly messages: readonly ChatMessage[]
  /** Absent: as the template does by itself. */
  readonly thinking?: boolean | undefined
  /** The last message, an assistant's, is the reply's beginning. */
  readonly continuesLast?: boolean | undefined
}

export type Prompt =
  | ({ readonly kind: 'messages' } & ChatInput)
  | {
      readonly kind: 'text'
      readonly text: string
      /** Absent or true: the tokenizer adds what it adds to every text (such as a BOS). */
      readonly addSpecialTokens?: boolean
    }
  | { readonly kind: 'tokens'; readonly tokens: readonly number[] }

/** Who asks, for fairness: a client's requests share its turns, and so do a request's prompts. */
export interface Turn {
  /** Not the key or the address itself. */
  readonly client: string
  /** Of the client's own call; several prompts may belong to one. */
  readonly request: string
}

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
  /** Until this many were generated, end tokens are suppressed and stop strings are text. */
  readonly minTokens: number
  readonly ignoreEos: boolean
  /** Of a chat they act on the answer only (sampling/reply-parser.ts). */
  readonly stop: readonly string[]
  readonly stopTokenIds: readonly number[]
  /** The stop string itself stays in the text when true. */
  readonly includeStopInOutput: boolean
  readonly seed: bigint
}

export interface GenerateRequest extends AdapterSelection {
  readonly id: string
  readonly turn: Turn
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
  /** Thought and answer apart (chat). When false everything is `content` (plain completions). */
  readonly splitReasoning: boolean
}

export interface TokenLogprob {
  readonly id: number
  /** The token's own text; bytes that are no whole code point show as U+FFFD. */
  readonly token: string
  readonly bytes: readonly number[]
  readonly logprob: number
  /** Its text is no part of the answer's. */
  readonly hidden?: true
}

export interface TokenLogprobs extends TokenLogprob {
  readonly top: readonly TokenLogprob[]
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
      readonly logprobs: PromptLogprobs | null
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
