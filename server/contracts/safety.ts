// Live safety: what is judged of a request, by whom, and what follows. A verdict is P(unsafe) of the
// conversation up to a position; it changes no bit of what is generated.

import type { AdapterRef, AppliedAdapter, RequiredAdapter } from './adapter.ts'

/** From the weakest to the strongest. block and escalate send no flagged text, so they are alike. */
export const safetyModes = ['off', 'observe', 'block', 'escalate'] as const
export type SafetyMode = (typeof safetyModes)[number]

/** input: the prompt. reasoning and output: the reply's thought and answer. */
export type JudgedPart = 'input' | 'reasoning' | 'output'

/** What no request with a key goes below, beside what the flags say. */
export interface KeyFloor {
  /** null: the key says nothing of it. */
  readonly safety: SafetyMode | null
  readonly requireAdapter: RequiredAdapter | null
  /** Requests that begin the answer; null: refused where the key has another minimum. */
  readonly begunAnswers: 'refuse' | 'allow' | null
}

/** What the engine judges of a request. Every field concrete. */
export interface SafetyPlan {
  /** observe: told. block: flagged text is never told. escalate: it is said again, with an adapter. */
  readonly input: SafetyMode
  /** Of thought and answer. */
  readonly reply: SafetyMode
  /** A verdict after every so many tokens of the reply; in block and escalate text waits for it. */
  readonly every: number
  /** P(unsafe) from which a part is flagged; null: what the guard was calibrated to. */
  readonly threshold: number | null
  /** The guard's own threshold counts where it is lower: it may differ from part to part. */
  readonly isThresholdCap?: boolean | undefined
  /** Of escalate: what the reply runs with from the last position that passed. */
  readonly escalation: AdapterRef | null
  /** What happens to text that cannot be judged, for want of a position or of a guard. */
  readonly failure: 'open' | 'closed'
}

/** Who judges. */
export interface GuardInfo {
  readonly kind: 'adapter' | 'url'
  readonly id: string
  /** 64 hex digits; null: a guard behind an address. */
  readonly digest: string | null
  /** A probe tells a score of every token. */
  readonly hasProbe: boolean
  /** What a part is flagged from by default. */
  readonly threshold: number | null
}

/** A guard as it judges one request. */
export interface AppliedGuard extends GuardInfo {
  /** It was measured on what the request runs with. */
  readonly certified: boolean
}

/** What one verdict says. */
export interface Verdict {
  readonly part: JudgedPart
  /** Tokens of the reply that it covers; 0 for the input. */
  readonly scoredTokens: number
  /** P(unsafe), 0–1; null where it could not be judged, and `skipped` says why. */
  readonly score: number | null
  readonly flagged: boolean
  /** P(unsafe) from which it is flagged; null: nothing said so. */
  readonly threshold: number | null
  /** It was measured on what this part ran with. */
  readonly certified: boolean
  /** The largest that the probe told of any token since the verdict before; null: there is no probe. */
  readonly probe: number | null
  /** truncated: no position was left for it. failed: the guard gave no score. */
  readonly skipped: 'truncated' | 'failed' | null
  /** Of a guard that names them: what was found, as it calls it (S1 … S14). */
  readonly categories?: readonly string[] | undefined
  /** Of a guard with a context of its own: it read beginning and end, without the middle. */
  readonly isCut?: boolean | undefined
}

/** The reply goes on with other adapters, from the last text that passed. */
export interface Escalation {
  /** Tokens of the reply that were kept; 0: it began anew, prompt and all. */
  readonly keptTokens: number
  /** Tokens that were generated, and are told to nobody. */
  readonly droppedTokens: number
  readonly adapters: readonly AppliedAdapter[]
}
