// Every message between the front and the engine process. Sent by structured clone (message-pipe.ts), so
// bigint and typed arrays pass.

import type {
  AdapterChange,
  AdapterChanged,
  AdapterQuery,
  AdapterSummary,
  MergeTarget,
  PreparedMerge,
} from '../contracts/adapter.ts'
import type {
  Asked,
  EngineOptions,
  EngineStats,
  ModelInfo,
  TokenizeInput,
  TokenizeResult,
} from '../contracts/engine.ts'
import type { GenerateRequest, GenerationEvent } from '../contracts/generation.ts'
import type { ErrorBody } from '../errors.ts'

/** Questions with one answer: name → [input, output]. */
export interface Calls {
  tokenize: [Asked<TokenizeInput>, TokenizeResult]
  detokenize: [Asked<readonly number[]>, string]
  listAdapters: [AdapterQuery, readonly AdapterSummary[]]
  changeAdapter: [AdapterChange, AdapterChanged]
  prepareMerge: [MergeTarget, PreparedMerge]
}
export type CallName = keyof Calls

/** Who answers them. */
export type CallHandlers = {
  readonly [Name in CallName]: (input: Calls[Name][0]) => Calls[Name][1] | Promise<Calls[Name][1]>
}

export type Call<Name extends CallName = CallName> = {
  [N in Name]: {
    readonly kind: 'call'
    readonly id: number
    readonly name: N
    readonly input: Calls[N][0]
  }
}[Name]

export type Answer<Name extends CallName = CallName> = {
  [N in Name]: {
    readonly kind: 'answer'
    readonly id: number
    readonly name: N
    readonly value: Calls[N][1]
  }
}[Name]

export type ToEngine<Name extends CallName = CallName> =
  | { readonly kind: 'start'; readonly options: EngineOptions }
  | { readonly kind: 'submit'; readonly request: GenerateRequest }
  | { readonly kind: 'cancel'; readonly id: string }
  | Call<Name>

export type FromEngine<Name extends CallName = CallName> =
  | { readonly kind: 'ready'; readonly model: ModelInfo }
  /** The engine cannot start with these options; the process ends. */
  | { readonly kind: 'refused'; readonly error: ErrorBody }
  | {
      readonly kind: 'progress'
      readonly what: string
      readonly done: number
      readonly total: number
    }
  /** For the log, as a warning. */
  | { readonly kind: 'notice'; readonly message: string }
  | { readonly kind: 'events'; readonly events: ReadonlyArray<readonly [string, GenerationEvent]> }
  | { readonly kind: 'stats'; readonly stats: EngineStats }
  /** Nothing can be computed now, and why; null: it can again, as from the start. */
  | { readonly kind: 'outage'; readonly error: ErrorBody | null }
  | Answer<Name>
  | {
      readonly kind: 'refusal'
      readonly id: number
      readonly name: Name
      readonly error: ErrorBody
    }
