// How a guard's logits become P(unsafe) on what a request runs with. A guard reads keys and values that
// adapters changed, so it is measured on each carrier: a set of adapters at their strengths.

import type { AppliedAdapter, MergedAdapter } from '../contracts/adapter.ts'
import type { JudgedPart } from '../contracts/safety.ts'
import type { Calibration } from '../safety/guard.ts'
import type { GuardManifest } from './guard-manifest.ts'

type Carrier = GuardManifest['carriers'][number]

const partNames = { input: 'prompt', reasoning: 'reasoning', output: 'output' } as const

/**
 * Certified: the very adapters of a carrier, each as strong as in one, or between two. The carrier
 * nearest in strength then says how to read the logits, else the guard as a whole; a part's own
 * measure comes first. `merged`: what the weights hold. Over them only what was measured over the like
 * is certified; how to read the logits says the carrier that holds the adapters beside the weights.
 */
export function calibrationOf(
  guard: GuardManifest,
  applied: readonly AppliedAdapter[],
  part: JudgedPart,
  merged: readonly MergedAdapter[] = [],
): Calibration {
  const hot = guard.carriers.filter((one) => one.merged !== true)
  const beside = nearestCarrier(hot, applied)
  const carrier = merged.length === 0 ? beside : mergedCarrier(guard.carriers, applied, merged)
  const source = carrier ?? beside ?? guard
  const { temperature, threshold } = source.parts?.[partNames[part]] ?? source
  return { temperature, threshold, certified: carrier !== null }
}

/** Of one that is in the weights as a whole: what runs beside them was measured by nobody. */
function mergedCarrier(
  carriers: readonly Carrier[],
  applied: readonly AppliedAdapter[],
  merged: readonly MergedAdapter[],
): Carrier | null {
  const isWhole = merged.every(({ digest, scale }) =>
    applied.some((one) => one.digest === digest && one.scale === scale),
  )
  if (!isWhole || applied.length !== merged.length) return null
  const measured = carriers.filter((one) => one.merged === true)
  return nearestCarrier(measured, applied)
}

function nearestCarrier(
  carriers: readonly Carrier[],
  applied: readonly AppliedAdapter[],
): Carrier | null {
  // One that acts on a part of the text alone was not measured so.
  if (applied.some(({ span }) => span !== undefined)) return null
  const alike = carriers.filter(({ adapters }) => hasDigests(adapters, applied))
  const isBetween = applied.every(({ digest, scale }) => {
    const scales = alike.map((carrier) => scaleOf(carrier, digest))
    return Math.min(...scales) <= scale && scale <= Math.max(...scales)
  })
  if (alike.length === 0 || !isBetween) return null
  const distance = (carrier: Carrier) =>
    applied.reduce((sum, { digest, scale }) => sum + Math.abs(scaleOf(carrier, digest) - scale), 0)
  return alike.reduce((x, y) => (distance(y) < distance(x) ? y : x))
}

function hasDigests(adapters: Carrier['adapters'], applied: readonly AppliedAdapter[]): boolean {
  if (adapters.length !== applied.length) return false
  const digests = new Set(adapters.map(({ digest }) => digest))
  return digests.size === applied.length && applied.every(({ digest }) => digests.has(digest))
}

function scaleOf({ adapters }: Carrier, of: string): number {
  return adapters.find(({ digest }) => digest === of)!.scale
}
