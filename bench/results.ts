// What a run measured, and what its comparisons come to. Pure; this is also the shape of the JSON
// file.

import type { Commit } from './commit.ts'
import type { Machine } from './machine.ts'
import type { Measurement, PeerInfo } from './peers/protocol.ts'
import {
  type Case,
  type Comparison,
  caseIds,
  type PeerUse,
  type Section,
  type Target,
} from './sections/section.ts'
import { pairedRatios, type Spread, spread } from './statistics.ts'

interface CaseResult {
  readonly id: string
  /** One per round, in the case's unit. */
  readonly values: readonly number[]
  readonly measurements: readonly Measurement[]
}

export interface MissingPeer {
  /** As `engineName` says it. */
  readonly peer: string
  readonly reason: string
  /** This processor cannot run it, so a run without it is whole. */
  readonly isUnsupported?: boolean
}

export interface SectionResult {
  readonly section: Section
  /** One-minute load average when the section began and when it ended. */
  readonly load: readonly [before: number, after: number]
  readonly cases: readonly CaseResult[]
  /** Why a peer has no numbers. */
  readonly missing: readonly MissingPeer[]
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

/** A peer of a comparison with the best, by its case. */
export interface PeerRatio {
  readonly id: string
  readonly spread: Spread
}

export interface Outcome {
  readonly comparison: Comparison
  /** Of a comparison with the best peer: all that were measured, the best first. */
  readonly peers: readonly PeerRatio[]
  readonly spread: Spread
  /** null where there is no target. */
  readonly isMet: boolean | null
}

/** The comparisons of a section whose cases all have values. */
export function outcomesOf({
  section,
  cases,
}: Pick<SectionResult, 'section' | 'cases'>): readonly Outcome[] {
  const values = new Map(cases.map((result) => [result.id, result.values]))
  return section.comparisons.flatMap((comparison) => {
    const peers = comparison.kind === 'best' ? ratiosOf(comparison, values) : []
    const found = peers[0]?.spread ?? spreadOf(comparison, values)
    if (found === null) return []
    const { target } = comparison
    const isMet = target === null ? null : meets(found, target)
    return [{ comparison, peers, spread: found, isMet }]
  })
}

/** Ours over each peer that has values, the least ratio first: that peer is the fastest. */
function ratiosOf(
  { top, peers }: Extract<Comparison, { kind: 'best' }>,
  values: ReadonlyMap<string, readonly number[]>,
): readonly PeerRatio[] {
  const own = values.get(top)
  return peers
    .flatMap((id) => {
      const theirs = values.get(id)
      return own && theirs ? [{ id, spread: pairedRatios(own, theirs) }] : []
    })
    .toSorted((a, b) => a.spread.median - b.spread.median)
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
    case 'best':
      return null
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

/** A comparison without numbers, and why. */
export interface Unmeasured {
  readonly comparison: Comparison
  readonly reason: string
}

/** The comparisons of a section for which an engine is missing. */
export function unmeasured({ section, cases, missing }: SectionResult): readonly Unmeasured[] {
  const measured = new Set(cases.map(({ id }) => id))
  const reasons = new Map(missing.map(({ peer, reason }) => [peer, reason]))
  const found = new Set(outcomesOf({ section, cases }).map(({ comparison }) => comparison))
  return section.comparisons.flatMap((comparison) => {
    if (found.has(comparison)) return []
    const lacking = caseIds(comparison).filter((id) => !measured.has(id))
    const reason = lacking
      .map((id) => section.cases.find((one) => one.id === id))
      .map((one) => one && reasons.get(engineName(one.use)))
      .find((one) => one !== undefined)
    return reason === undefined ? [] : [{ comparison, reason }]
  })
}

export function engineName({ peer, weights, hasSites, resident }: PeerUse): string {
  const sites = hasSites ? '' : ', no adapter sites'
  const residents = resident > 0 && peer === 'dutyfree-c-api' ? `, ${resident} resident` : ''
  return `${peer}${weights ? ` ${weights}` : ''}${sites}${residents}`
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
