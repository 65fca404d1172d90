// A generation: what the front asks of the engine and the events it gets back.
// Order of events for one request: accepted, then prompt where the request asks of its prompt, then
// delta and choice_finished in any interleaving of its choices (of a judged request verdict and
// escalated, too), then exactly one terminal event (done | failed | cancelled). failed and cancelled
// may also come first.

import type { ErrorBody } from '../errors.ts'
import type { AdapterSelection, AppliedAdapter, MergedShare } from './adapter.ts'
import type { OutputConstraint } from './constraint.ts'
import type { JsonObject } from './json.ts'
import type { PromptLogprobs } from './prompt-logprobs.ts'
import type { AppliedGuard, Escalation, SafetyPlan, Verdict } from './safety.ts'

/** A call of a tool, as an earlier answer had it. */
export interface ToolCall {
  readonly id: string
  readonly name: string
  /** JSON text of an object. */
  readonly arguments: string
}

export interface ChatMessage {
  /** tool: what a call gave. */
  readonly role: 'system' | 'user' | 'assistant' | 'tool'
  readonly content: string
  /** Of an assistant. */
  readonly toolCalls?: readonly ToolCall[]
  /** Of a tool: the call that it answers. */
  readonly answers?: Pick<ToolCall, 'id' | 'name'>
}

/** A tool as the template shows it to the model. */
export interface ToolDefinition {
  readonly name: string
  readonly description: string | null
  /** A JSON Schema. */
  readonly parameters: JsonObject | null
}

/** A chat, and what the client asks of its template. */
export interface ChatInput {
  readonly messages: readonly ChatMessage[]
  /** Absent: as the template does by itself. */
  readonly thinking?: boolean | undefined
  /** The last message, an assistant's, is the reply's beginning. */
  readonly continuesLast?: boolean | undefined
  /** Absent or empty: there are none. */
  readonly tools?: readonly ToolDefinition[] | undefined
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
  /** Texts that no sequence of tokens may spell, with a space before it or without. */
  readonly badWords: readonly string[]
  /** Only these may be sampled; null: all. */
  readonly allowedTokens: readonly number[] | null
  /** The text of special tokens is left out. */
  readonly skipSpecialTokens: boolean
  readonly seed: bigint
}

export interface GenerateRequest extends AdapterSelection {
  readonly id: string
  readonly turn: Turn
  readonly prompt: Prompt
  /** Of a longer prompt only its last tokens count; null: it is never cut. */
  readonly truncatePrompt: number | null
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
  /** Reported among the alternatives of each token, likely or not. */
  readonly logprobTokens: readonly number[]
  /** The ids of prompt and reply are told. */
  readonly returnTokenIds: boolean
  /** Thought and answer apart (chat). When false everything is `content` (plain completions). */
  readonly splitReasoning: boolean
  /** null: nothing is judged. */
  readonly safety: SafetyPlan | null
  /** What the answer has to look like, after a thought where there is one; null: anything. */
  readonly constraint: OutputConstraint | null
  /** The client's field that asks for it. */
  readonly constraintField?: string
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
/** content_filter: what came next was flagged, and is not told. */
export type FinishReason = 'stop' | 'length' | 'content_filter'

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
      /** What the weights hold; left out: no adapter. */
      readonly merged?: readonly MergedShare[]
      /** null: nothing is judged. */
      readonly guard: AppliedGuard | null
    }
  | {
      readonly kind: 'prompt'
      /** The first choice of this prompt. */
      readonly index: number
      readonly text: string
      readonly logprobs: PromptLogprobs | null
      /** Where the request asks for them. */
      readonly tokenIds?: readonly number[]
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
      /** Of these tokens, where the request asks for them. */
      readonly tokenIds?: readonly number[]
    }
  | ({ readonly kind: 'verdict'; readonly index: number } & Verdict)
  | ({ readonly kind: 'escalated'; readonly index: number } & Escalation)
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
