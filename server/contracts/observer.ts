// What rooms tell the metrics room. It never asks back.

import type { EngineState, EngineStats, ModelInfo } from './engine.ts'
import type { JudgedPart, Verdict } from './safety.ts'

interface RequestLabels {
  /** Ids of the applied adapters joined by "+", "none" for the base; only ids that are loaded. */
  readonly adapter: string
}

interface OfResponse extends RequestLabels {
  /** The answer's id, as the client sees it. */
  readonly responseId: string
}

export interface JudgedRequest extends OfResponse {
  /** Of the choice. */
  readonly index: number
  /** Its id; null: nobody judged. */
  readonly guard: string | null
  readonly verdict: Verdict
}

export interface FinishedRequest extends OfResponse {
  /** stop | length | abort | an error code */
  readonly outcome: string
  readonly promptTokens: number
  readonly cachedTokens: number
  readonly completionTokens: number
  readonly maxTokens: number | null
  readonly n: number
  readonly e2eSeconds: number
  readonly queueSeconds: number | null
  readonly prefillSeconds: number | null
  readonly decodeSeconds: number | null
}

/** overloaded: too many verdicts wait. unparsable: it answered something else than a verdict. */
export type GuardOutcome =
  | 'ok'
  | 'overloaded'
  | 'timeout'
  | 'unreachable'
  | 'refused'
  | 'unparsable'

export interface AdapterChangeEvent {
  readonly kind: 'upload' | 'folder' | 'hub' | 'remove' | 'unload'
  /** added | replaced | unchanged | removed | an error code */
  readonly outcome: string
}

export interface Observer {
  httpResponse(event: { route: string; method: string; status: number; seconds: number }): void
  clientDisconnected(stage: 'before_response' | 'mid_stream'): void
  firstToken(event: RequestLabels & { seconds: number }): void
  interToken(event: RequestLabels & { seconds: number }): void
  requestFinished(event: FinishedRequest): void
  verdict(event: JudgedRequest): void
  /** A choice ended because of what was judged, or could not be. */
  blocked(event: RequestLabels & { part: JudgedPart }): void
  escalated(event: RequestLabels): void
  /** A request asked for less than the operator allows. */
  floorRefused(rule: 'safety' | 'begun_answer'): void
  /** A verdict of a guard behind an address. */
  guardAsked(event: { outcome: GuardOutcome; seconds: number }): void
  /** A change of the adapters, done or refused. */
  adapterChanged(event: AdapterChangeEvent): void
  /** Bytes of an upload, taken or not. */
  uploaded(bytes: number): void
  /** A request with a key, by its status; `tokens` are told when it has run. */
  keyUsed(event: { readonly key: string; readonly status: number }): void
  keyTokens(event: { readonly key: string; readonly tokens: number }): void
  engineStats(stats: EngineStats): void
  engineState(state: EngineState): void
  engineReady(model: ModelInfo): void
  engineRestarted(reason: 'crashed' | 'hung'): void
  /** Another engine took over from one that was well, or could not be started. */
  engineReplaced(outcome: 'replaced' | 'refused'): void
  /** refused: the weights stay as they were. */
  mergeEnded(outcome: 'merged' | 'unmerged' | 'unchanged' | 'refused'): void
}
