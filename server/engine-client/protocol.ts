// Every message between the front and the engine process. Sent by structured clone ("advanced"
// serialization), so bigint and typed arrays pass.

import type { AdapterSummary } from '../contracts/adapter.ts'
import type {
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
  tokenize: [TokenizeInput, TokenizeResult]
  detokenize: [readonly number[], string]
  listAdapters: [null, readonly AdapterSummary[]]
}
export type CallName = keyof Calls

export type ToEngine =
  | { readonly kind: 'start'; readonly options: EngineOptions }
  | { readonly kind: 'submit'; readonly request: GenerateRequest }
  | { readonly kind: 'cancel'; readonly id: string }
  | {
      [Name in CallName]: {
        readonly kind: 'call'
        readonly id: number
        readonly name: Name
        readonly input: Calls[Name][0]
      }
    }[CallName]

export type FromEngine =
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
  /** How long the step under way has taken; null when idle. */
  | { readonly kind: 'heartbeat'; readonly stepMs: number | null }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'refusal'; readonly id: number; readonly error: ErrorBody }

export const heartbeatMs = 1000
