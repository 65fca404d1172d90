// Which adapters act on each position of a sequence: a list of segments, each from a position on. Keys and
// values of a position depend on the adapters of that position and of all before it, so two sequences
// share none from where their segments differ.
//
// The weights may hold adapters already. A set runs with what is left: those of the weights that it has
// not are taken off, and of one that it has only the difference in strength is added.
//
// A request's adapters act on prompt and thought, on the answer, or on both; once the reply was escalated
// others do.

import type {
  AdapterRef,
  AdapterSpan,
  AppliedAdapter,
  HeldAdapter,
  MergedShare,
  ScaledRankOne,
} from '../contracts/adapter.ts'

/** Adapters that act together. */
export interface AdapterSet {
  readonly applied: readonly AppliedAdapter[]
  readonly components: readonly ScaledRankOne[]
  /** Sets of one key compute the same keys and values for the same tokens. */
  readonly key: string
}

interface AdapterSets {
  /** All of them, each with its span. */
  readonly applied: readonly AppliedAdapter[]
  /** Of prompt and thought. */
  readonly thought: AdapterSet
  readonly answer: AdapterSet
}

export interface RequestAdapters extends AdapterSets {
  /** From an escalation on; null: nothing is escalated. */
  readonly escalated: AdapterSets | null
}

export interface Segment extends AdapterSet {
  /** Position of its first token. */
  readonly from: number
}

export function createSegments(first: AdapterSet) {
  let list: readonly Segment[] = [{ ...first, from: 0 }]
  return {
    get list() {
      return list
    },
    at(position: number): Segment {
      return list.findLast(({ from }) => from <= position)!
    },
    /** From `from` on these act; nothing beyond it is computed yet, or will be kept. */
    set(from: number, adapters: AdapterSet): void {
      const before = list.filter((segment) => segment.from < from)
      if (before.at(-1)?.key === adapters.key) list = before
      else list = [...before, { ...adapters, from }]
    },
  }
}

/** Positions below this one have the same adapters in both; Infinity where all do. */
export function sharedLength(x: readonly Segment[], y: readonly Segment[]): number {
  let i = 0
  while (i < x.length && i < y.length && x[i]!.from === y[i]!.from && x[i]!.key === y[i]!.key) i++
  return Math.min(x[i]?.from ?? Infinity, y[i]?.from ?? Infinity)
}

/** What a prefix-cache block of positions [from, to) is told by, beside its tokens and those before. */
export function markOf(list: readonly Segment[], from: number, to: number): string {
  return list
    .filter((segment) => segment.from > 0 && segment.from >= from && segment.from < to)
    .map((segment) => `@${segment.from - from}[${segment.key}]`)
    .join('')
}

/** `named`: those of the request itself, before any escalation. `merged`: those of the weights. */
export function arrangeAdapters(
  held: readonly HeldAdapter[],
  named: readonly AdapterRef[],
  escalation: AdapterRef | null,
  merged: readonly HeldAdapter[] = [],
): RequestAdapters {
  const setsOf = (adapters: readonly HeldAdapter[]) => arrangeSets(adapters, merged)
  const own = held.filter(({ applied }) => named.some(({ id }) => id === applied.id))
  const raised = held.find(({ applied }) => applied.id === escalation?.id)
  if (escalation === null || raised === undefined) return { ...setsOf(own), escalated: null }
  const others = own.filter((adapter) => adapter !== raised)
  return { ...setsOf(own), escalated: setsOf([...others, raise(raised, escalation, own)]) }
}

/** Of a text without adapters. */
export const baseAdapters: RequestAdapters = arrangeAdapters([], [], null)

/** An adapter that acts already goes on with the larger strength, everywhere from there on. */
function raise(
  raised: HeldAdapter,
  { scale }: AdapterRef,
  own: readonly HeldAdapter[],
): HeldAdapter {
  const { span: _, ...applied } = raised.applied
  const wanted = scale ?? raised.defaultScale
  const strength = own.includes(raised) ? Math.max(wanted, raised.applied.scale) : wanted
  return { ...raised, applied: { ...applied, scale: strength } }
}

function arrangeSets(
  adapters: readonly HeldAdapter[],
  merged: readonly HeldAdapter[],
): AdapterSets {
  const setOf = (some: readonly HeldAdapter[]) => createSet(some, merged)
  const without = (span: AdapterSpan) => adapters.filter(({ applied }) => applied.span !== span)
  const thought = setOf(without('answer'))
  const isOne = adapters.every(({ applied }) => applied.span === undefined)
  const answer = isOne ? thought : setOf(without('thought'))
  return { applied: adapters.map(({ applied }) => applied), thought, answer }
}

function createSet(adapters: readonly HeldAdapter[], merged: readonly HeldAdapter[]): AdapterSet {
  const applied = adapters.map(({ applied }) => applied)
  const others = adapters.filter((one) => !merged.some((other) => isSame(one, other)))
  const rest = merged
    .map((one) => atStrength(one, hotStrength(one.applied, applied)))
    .filter(({ applied: { scale } }) => scale !== 0)
  return {
    applied,
    components: [...rest, ...others].flatMap(scaled),
    key: applied.map(({ digest, scale }) => `${digest}:${scale}`).join(' '),
  }
}

/** What these add of an adapter that the weights hold. It may have two names. */
function hotStrength(merged: AppliedAdapter, wanted: readonly AppliedAdapter[]): number {
  const same = wanted.filter(({ digest }) => digest === merged.digest)
  return same.reduce((sum, { scale }) => sum + scale, 0) - merged.scale
}

function isSame({ applied: x }: HeldAdapter, { applied: y }: HeldAdapter): boolean {
  return x.digest === y.digest
}

function atStrength(adapter: HeldAdapter, scale: number): HeldAdapter {
  return { ...adapter, applied: { ...adapter.applied, scale } }
}

/** What each of the weights' adapters is in prompt and thought of a request. */
export function mergedShares(
  merged: readonly HeldAdapter[],
  { thought }: RequestAdapters,
): readonly MergedShare[] {
  return merged.map(({ applied }) => {
    const { id, digest, scale } = applied
    return { id, digest, scale, hot: hotStrength(applied, thought.applied) }
  })
}

function scaled({ applied: { scale }, components }: HeldAdapter): ScaledRankOne[] {
  return components.map((component) => ({ component, scale }))
}
