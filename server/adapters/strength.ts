// How strong each adapter of a request is. Decided here alone, from the default strengths of the
// versions that the request runs with.

import type { AdapterFloor, AdapterRef, AdapterSelection } from '../contracts/adapter.ts'
import { ServerError } from '../errors.ts'

/** Of each adapter; `defaults` are theirs in the same order. Throws adapter_required. */
export function decideStrengths(
  selection: AdapterSelection,
  defaults: readonly number[],
): readonly number[] {
  requireNamed(selection)
  return selection.adapters.map((ref, i) => strengthOf(ref, selection.required, defaults[i]!))
}

/** The required adapter is among those of the request. */
export function requireNamed({ adapters, required }: AdapterSelection): void {
  if (required === null || adapters.some(({ id }) => id === required.id)) return
  refuse(required, required.minScale)
}

function strengthOf(
  { id, scale }: AdapterRef,
  required: AdapterFloor | null,
  defaultScale: number,
): number {
  if (id !== required?.id) return scale ?? defaultScale
  const minScale = required.minScale ?? defaultScale
  if (scale === null) return Math.max(defaultScale, minScale)
  if (scale >= minScale) return scale
  return required.namedIn === null ? minScale : refuse(required, minScale)
}

function refuse({ id, namedIn }: AdapterFloor, minScale: number | null): never {
  const strength = minScale === null ? 'its default strength' : `strength ${minScale}`
  throw new ServerError(
    'adapter_required',
    `Every request here runs with the adapter "${id}" at ${strength} or more (--require-adapter): ` +
      'name it so, or name none at all.',
    { param: namedIn },
  )
}
