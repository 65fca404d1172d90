// A guard that judges on the resident model: one token with its adapter on the conversation's own keys
// and values, of which two logits are read.

import type { AppliedAdapter, ScaledRankOne } from '../contracts/adapter.ts'
import type { GuardInfo, JudgedPart } from '../contracts/safety.ts'

/** How logits become P(unsafe), and from where it is flagged. */
export interface Calibration {
  readonly temperature: number
  readonly threshold: number
  /** It was measured on the adapters that the judged part ran with. */
  readonly certified: boolean
}

export interface LoadedGuard {
  readonly info: GuardInfo
  /** The token that asks for the verdict; no template uses it. */
  readonly token: number
  readonly labels: { readonly safe: number; readonly unsafe: number }
  readonly components: readonly ScaledRankOne[]
  calibrationOf(applied: readonly AppliedAdapter[], part: JudgedPart): Calibration
  readonly probe: LoadedProbe | null
  /** On what it was not measured on, it reads the text once more as the base reads it. */
  readonly isExact: boolean
}

/** A direction in a layer's residual stream; the model tells w·h of every token. */
export interface LoadedProbe {
  /** P(unsafe) of one token, from w·h. */
  toScore(product: number): number
  /** From where a verdict is asked for at once. */
  readonly threshold: number
}

/** Logits after the guard's token, up to one constant: of all the vocabulary, or of the labels. */
export type LabelLogits = Readonly<Record<number, number>>

/** P(unsafe), from the logits after the guard's token. */
export function probabilityOf(
  logits: LabelLogits,
  { safe, unsafe }: LoadedGuard['labels'],
  temperature: number,
): number {
  return 1 / (1 + Math.exp((logits[safe]! - logits[unsafe]!) / temperature))
}
