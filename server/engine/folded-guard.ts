// A guard over weights that hold adapters. It was trained on the base's own weights, so a verdict takes
// off what was folded in. The keys and values that it reads are the conversation's, whoever made them.

import type { WeightsAdapter } from '../adapter-changes/merge-copies.ts'
import type { Checkpoint } from '../checkpoint/checkpoint.ts'
import type { HeldAdapter, ScaledRankOne } from '../contracts/adapter.ts'
import { inLayerOrder, type LinearModule } from '../contracts/checkpoint.ts'
import type { GuardOfFolder } from '../guards/guard-folder.ts'
import { canMapFiles } from '../runtime/native-memory.ts'
import type { LoadedGuard } from '../safety/guard.ts'
import { isInBlocks, isSmall, type WeightFormats } from './weights.ts'

export function foldedGuard(guard: LoadedGuard, merged: readonly HeldAdapter[]): LoadedGuard {
  const taken = merged
    .flatMap(scaledOf)
    .map(({ component, scale }) => ({ component, scale: -scale }))
  return { ...guard, components: [...guard.components, ...taken] }
}

/** At the strength that it was merged with. */
export function scaledOf({ components, applied: { scale } }: HeldAdapter): ScaledRankOne[] {
  return components.map((component) => ({ component, scale }))
}

export interface VerdictPlace {
  readonly sites: readonly LinearModule[]
  /** Those of verdicts, where a graph of their own computes them; null: `sites` has them. */
  readonly verdictSites: readonly LinearModule[] | null
}

/**
 * With our own kernels verdicts have a graph of their own, so that a guard's sites cost no other step
 * anything. Weights that stay floats are in memory twice while ONNX Runtime packs them: not large ones. A
 * GPU would hold them twice for good.
 */
export function placeVerdicts(
  asked: readonly LinearModule[],
  guard: GuardOfFolder | null,
  merged: readonly WeightsAdapter[],
  { kernels, format }: Pick<WeightFormats, 'kernels' | 'format'>,
  checkpoint: Pick<Checkpoint, 'numParameters'>,
): VerdictPlace {
  // Any step may have to take them off the weights.
  const inWeights = inLayerOrder(...merged.map(({ modules }) => modules))
  const sites = inLayerOrder(asked, inWeights)
  const modules = inLayerOrder(guard?.modules ?? [], inWeights)
  const isCheap = isInBlocks(format) || isSmall(checkpoint)
  return guard !== null && kernels === 'own' && canMapFiles && isCheap
    ? { sites, verdictSites: modules }
    : { sites: inLayerOrder(sites, modules), verdictSites: null }
}
