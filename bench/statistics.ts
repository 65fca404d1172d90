// Medians, ranges and ratios of repeated measurements.

/** What repeated measurements come to. */
export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
  readonly n: number
}

export function spread(values: readonly number[]): Spread {
  if (values.length === 0) throw new Error('a spread needs at least one value')
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle]!
  return {
    median: sorted.length % 2 === 1 ? upper : (sorted[middle - 1]! + upper) / 2,
    min: sorted[0]!,
    max: sorted.at(-1)!,
    n: sorted.length,
  }
}

/**
 * Ratios of what was measured in the same round, seconds apart: load that comes and goes slows both
 * sides of one ratio alike, which a ratio of two medians would not know.
 */
export function pairedRatios(top: readonly number[], bottom: readonly number[]): Spread {
  if (top.length !== bottom.length) {
    throw new Error(
      `paired ratios need as many values on each side; got ${top.length} and ${bottom.length}`,
    )
  }
  return spread(top.map((value, round) => value / bottom[round]!))
}

/** The p-th percentile (0–1) by nearest rank. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil(p * sorted.length) - 1)] ?? Number.NaN
}
