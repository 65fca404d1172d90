// How a reply attests what was really applied: the body field `adapter` and the header `x-adapter`.

import type { AppliedAdapter } from '../../contracts/adapter.ts'

const shownDigits = 12

export function adapterField(applied: readonly AppliedAdapter[]) {
  return applied.map(({ id, digest, scale }) => ({
    id,
    digest: digest.slice(0, shownDigits),
    scale,
  }))
}

/** `safety-r1@0123456789ab;scale=0.8, terse@…;scale=1`, or `none`. */
export function adapterHeader(applied: readonly AppliedAdapter[]): string {
  return applied.length === 0
    ? 'none'
    : adapterField(applied)
        .map(({ id, digest, scale }) => `${id}@${digest};scale=${scale}`)
        .join(', ')
}
