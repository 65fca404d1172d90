// How strong each adapter of a request is. Decided here alone, from the default strengths of the
// versions that the request runs with.

import type {
  AdapterFloor,
  AdapterRef,
  AdapterSelection,
  AdapterSpan,
} from '../contracts/adapter.ts'
import { ServerError } from '../errors.ts'

/** Of each adapter; `defaults` are theirs in the same order. Throws adapter_required. */
export function decideStrengths(
  selection: AdapterSelection,
  defaults: readonly number[],
): readonly number[] {
  requireNamed(selection)
  return selection.adapters.map((ref, i) => strengthOf(ref, selection.required, defaults[i]!))
}

/** The required adapters are among those of the request, and act everywhere. */
export function requireNamed({ adapters, required }: AdapterSelection): void {
  for (const floor of required) {
    const named = adapters.find(({ id }) => id === floor.id)
    if (named === undefined) refuse(floor, floor.minScale)
    if (named.span !== undefined) refuseSpan(floor, named.span)
  }
}

function strengthOf(
  { id, scale }: AdapterRef,
  required: readonly AdapterFloor[],
  defaultScale: number,
): number {
  const floors = required.filter((floor) => floor.id === id)
  if (floors.length === 0) return scale ?? defaultScale
  const [highest] = floors.toSorted((x, y) => leastOf(y, defaultScale) - leastOf(x, defaultScale))
  const minScale = leastOf(highest!, defaultScale)
  if (scale === null) return Math.max(defaultScale, minScale)
  if (scale >= minScale) return scale
  return highest!.namedIn === null ? minScale : refuse(highest!, minScale)
}

function leastOf({ minScale }: AdapterFloor, defaultScale: number): number {
  return minScale ?? defaultScale
}

function refuse({ id, by, namedIn }: AdapterFloor, minScale: number | null): never {
  const strength = minScale === null ? 'its default strength' : `strength ${minScale}`
  const requests = by === 'key' ? 'Every request with this key' : 'Every request here'
  throw new ServerError(
    'adapter_required',
    `${requests} runs with the adapter "${id}" at ${strength} or more ` +
      `(${by === 'key' ? '--keys-file' : '--require-adapter'}): name it so, or name none at all.`,
    { param: namedIn },
  )
}

function refuseSpan({ id, by, namedIn }: AdapterFloor, span: AdapterSpan): never {
  throw new ServerError(
    'adapter_required',
    `The adapter "${id}" is required (${by === 'key' ? '--keys-file' : '--require-adapter'}) for ` +
      `prompt and reply as a whole, and here it acts in the ${span} alone: name it without "from" and "until".`,
    { param: namedIn },
  )
}
