// How long a run may take: on a slow machine sections get fewer rounds, each at least one.

export interface Budget {
  /** At a section's start; the result is asked before every round but the first. */
  begin(section: number): (roundMs: number) => boolean
}

/**
 * What is left of `minutes` (null: no bound) is shared evenly by the sections that are left, so
 * what one does not need goes to the later ones. A round begins when one as long as the last still
 * fits.
 */
export function createBudget(
  minutes: number | null,
  numSections: number,
  elapsedMs: () => number,
): Budget {
  return {
    begin(section) {
      if (minutes === null) return () => true
      const start = elapsedMs()
      const share = Math.max(0, minutes * 60_000 - start) / (numSections - section)
      return (roundMs) => elapsedMs() + roundMs <= start + share
    },
  }
}
