// What rooms tell the metrics room. It never asks back.

import type { EngineState, EngineStats, ModelInfo } from './engine.ts'

interface RequestLabels {
  /** Ids of the applied adapters joined by "+", "none" for the base; only ids that are loaded. */
  readonly adapter: string
}

export interface FinishedRequest extends RequestLabels {
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

export interface Observer {
  httpResponse(event: { route: string; method: string; status: number; seconds: number }): void
  clientDisconnected(stage: 'before_response' | 'mid_stream'): void
  firstToken(event: RequestLabels & { seconds: number }): void
  interToken(event: RequestLabels & { seconds: number }): void
  requestFinished(event: FinishedRequest): void
  engineStats(stats: EngineStats): void
  engineState(state: EngineState): void
  engineReady(model: ModelInfo): void
  engineRestarted(reason: 'crashed' | 'hung'): void
  /** Another engine took over from one that was well, or could not be started. */
  engineReplaced(outcome: 'replaced' | 'refused'): void
}
