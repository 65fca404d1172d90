// What becomes of a request field that is known, and the words in which known-fields.ts says it.

import type { JsonObject } from '../../contracts/json.ts'
import type { ErrorCode } from '../../errors.ts'

export type RouteKind = 'chat' | 'completions'

/** Values that change nothing, as a predicate and in words. */
interface Values {
  readonly text: string
  /** `fields` are the supported ones of the request. */
  readonly has: (value: unknown, fields: JsonObject) => boolean
}

export type Verdict =
  | { readonly kind: 'bag' | 'unused' }
  | {
      readonly kind: 'supported'
      /** Values read as if the field were absent. */
      readonly absent: Values
    }
  | {
      readonly kind: 'alias'
      readonly of: string
      /** How its value differs from the other field's, in words; null: it is the same. */
      readonly note: string | null
      /** The other field's value; undefined: it says nothing. `path` is where the value stands. */
      readonly read: (value: unknown, path: string) => unknown
      /** Whether both may stand in one request. */
      readonly agrees: (value: unknown, other: unknown) => boolean
    }
  | { readonly kind: 'harmless'; readonly why: string }
  | {
      readonly kind: 'refused'
      readonly unless: Values
      /** What to do instead. */
      readonly remedy: string
      readonly code: ErrorCode
    }

/** A field on each route. */
export type KnownField = Readonly<Record<RouteKind, Verdict>>

export type Table = Readonly<Record<string, KnownField>>

export function both(verdict: Verdict): KnownField {
  return { chat: verdict, completions: verdict }
}

export function each(names: string, field: KnownField): Table {
  return Object.fromEntries(names.split(' ').map((name) => [name, field]))
}

export function supported(absent: Values = nothing): Verdict {
  return { kind: 'supported', absent }
}

export function harmless(names: string, why: string): Table {
  return each(names, both({ kind: 'harmless', why }))
}

export function refused(unless: Values, remedy: string, code: ErrorCode = 'unsupported_parameter') {
  return { kind: 'refused', unless, remedy, code } as const
}

/** Fields of one remedy, each with the values that change nothing. */
export function refuse(remedy: string, fields: Readonly<Record<string, Values>>): Table {
  return Object.fromEntries(
    Object.entries(fields).map(([name, unless]) => [name, both(refused(unless, remedy))]),
  )
}

function sameJson(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}

export function alias(names: string, of: string): Table {
  return each(names, both({ kind: 'alias', of, note: null, read: (v) => v, agrees: sameJson }))
}

export const nothing: Values = { text: 'null', has: () => false }
export const empty: Values = {
  text: 'empty',
  has: (value) =>
    value === '' ||
    (typeof value === 'object' && value !== null && Object.keys(value).length === 0),
}

export function only(...values: readonly unknown[]): Values {
  return {
    text: values.map((value) => `\`${JSON.stringify(value)}\``).join(' or '),
    has: (value) => values.some((candidate) => candidate === value),
  }
}

export function values(text: string, has: Values['has']): Values {
  return { text, has }
}

export function typeOf(value: unknown): unknown {
  return typeof value === 'object' && value !== null
    ? (value as { type?: unknown }).type
    : undefined
}
