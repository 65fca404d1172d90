// What a run measured, and what its comparisons come to. Pure; this is also the shape of the JSON
// file.

import type { Commit } from './commit.ts'
import type { Machine } from './machine.ts'
import type { Measurement, PeerInfo } from './peers/protocol.ts'
import type { Case, Comparison, Section, Target } from './sections/section.ts'
import { pairedRatios, type Spread, spread } from './statistics.ts'

interface CaseResult {
  readonly id: string
  /** One per round, in the case's unit. */
  readonly values: readonly number[]
  readonly measurements: readonly Measurement[]
}

export interface SectionResult {
  readonly section: Section
  /** One-minute load average when the section began and when it ended. */
  readonly load: readonly [before: number, after: number]
  readonly cases: readonly CaseResult[]
  /** Why a peer has no numbers. */
  readonly missing: ReadonlyArray<{ readonly peer: string; readonly reason: string }>
  /** Peer → what it said of itself. */
  readonly peers: Readonly<Record<string, PeerInfo>>
}

export interface Results extends Commit {
  readonly date: string
  readonly command: string
  readonly machine: Machine
  readonly rounds: number
  readonly threads: number
  readonly promptTokens: number
  readonly decodeTokens: number
  readonly sections: readonly SectionResult[]
}

/** A measurement in its case's unit. */
export function inUnit({ unit }: Case, measurement: Measurement): number {
  if (unit !== 'tokens/s') return measurement.value ?? Number.NaN
  const { tokens = Number.NaN, ms = Number.NaN } = measurement
  return (1000 * tokens) / ms
}

export interface Outcome {
  readonly comparison: Comparison
  readonly spread: Spread
  /** null where there is no target. */
  readonly isMet: boolean | null
}

/** The comparisons of a section whose cases all have values. */
export function outcomesOf({ section, cases }: SectionResult): readonly Outcome[] {
  const values = new Map(cases.map((result) => [result.id, result.values]))
  return section.comparisons.flatMap((comparison) => {
    const found = spreadOf(comparison, values)
    if (found === null) return []
    const { target } = comparison
    return [{ comparison, spread: found, isMet: target === null ? null : meets(found, target) }]
  })
}

function spreadOf(
  comparison: Comparison,
  values: ReadonlyMap<string, readonly number[]>,
): Spread | null {
  switch (comparison.kind) {
    case 'ratio': {
      const top = values.get(comparison.top)
      const bottom = values.get(comparison.bottom)
      return top && bottom ? pairedRatios(top, bottom) : null
    }
    case 'value': {
      const own = values.get(comparison.of)
      return own ? spread(own) : null
    }
    case 'share': {
      const rates = values.get(comparison.of)
      const reads = values.get(comparison.bandwidth)
      if (!rates || !reads) return null
      // The best read is what the memory can do; slower ones tell of other load.
      const best = Math.max(...reads)
      return spread(rates.map((rate) => (rate * comparison.bytesPerToken) / 1e9 / best))
    }
  }
}

export function meets({ median, min, max }: Spread, target: Target): boolean {
  switch (target.kind) {
    case 'at-least':
      return median >= target.value
    case 'at-most':
      return median <= target.value
    case 'about': {
      const { value } = target
      return Math.abs(median / value - 1) <= 0.05 || (min <= value && value <= max)
    }
  }
}
