// How a reply attests what was really applied: the body field `adapter` and the header `x-adapter`; over
// weights that hold adapters also `merged` and `x-merged`: how it was made.

import type { AppliedAdapter, MergedShare } from '../../contracts/adapter.ts'
import type { GenerationEvent } from '../../contracts/generation.ts'

/** Of a digest. */
export const shownDigits = 12

export function adapterField(applied: readonly AppliedAdapter[]) {
  return applied.map(({ id, digest, scale, span, attested }) => ({
    id,
    digest: digest.slice(0, shownDigits),
    scale,
    ...spanField(span),
    ...(attested && { attested }),
  }))
}

/** Each adapter of the weights, at what strength, and what was added to it beside them. */
function mergedField(merged: readonly MergedShare[]) {
  return merged.map(({ digest, ...share }) => ({ ...share, digest: digest.slice(0, shownDigits) }))
}

export interface Attested {
  readonly adapter: ReturnType<typeof adapterField>
  readonly merged?: ReturnType<typeof mergedField>
}

export function attestedFields({
  adapters,
  merged,
}: Extract<GenerationEvent, { kind: 'accepted' }>): Attested {
  const adapter = adapterField(adapters)
  return merged === undefined ? { adapter } : { adapter, merged: mergedField(merged) }
}

/** `safety-r1@0123456789ab;scale=1;hot=-1` */
export function mergedHeader(merged: readonly MergedShare[]): string {
  return mergedField(merged)
    .map(({ id, digest, scale, hot }) => `${id}@${digest};scale=${scale};hot=${hot}`)
    .join(', ')
}

/** In the words of the request: where it begins, or ends, to act. */
function spanField(span: AppliedAdapter['span']): { from?: 'answer'; until?: 'answer' } {
  if (span === undefined) return {}
  return span === 'answer' ? { from: 'answer' } : { until: 'answer' }
}

/** `safety-r1@0123456789ab;scale=0.8, terse@…;scale=1`, or `none`. */
export function adapterHeader(applied: readonly AppliedAdapter[]): string {
  return applied.length === 0
    ? 'none'
    : adapterField(applied)
        .map(
          ({ id, digest, scale, ...more }) =>
            `${id}@${digest};scale=${scale}${Object.entries(more)
              .map(([name, value]) => `;${name}=${value}`)
              .join('')}`,
        )
        .join(', ')
}
