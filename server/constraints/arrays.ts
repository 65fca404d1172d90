// Arrays of a schema: items by place, then items alike.

import {
  choice,
  type Expression,
  empty,
  GrammarError,
  never,
  repeat,
  rule,
  sequence,
  text,
} from '../grammar/expression.ts'
import { at, type Conjunction, type Located } from './conjunction.ts'

export interface ArrayTools {
  readonly allow: (all: readonly Located[]) => Expression
  readonly addRule: (name: string, expression: () => Expression) => string
  readonly space: Expression
  /** Unique among arrays. */
  readonly id: string
}

type Base = Conjunction['bases'][number]

export function arrays(
  bases: readonly Base[],
  { allow, addRule, space, id }: ArrayTools,
): Expression {
  const min = Math.max(0, ...bases.map(({ schema }) => (schema.minItems as number) ?? 0))
  const max = Math.min(
    ...bases.map(({ schema }) => (schema.maxItems as number) ?? Number.POSITIVE_INFINITY),
  )
  const layouts = bases.map(layoutOf)
  const numPlaces = Math.max(0, ...layouts.map(({ places }) => places.length))
  const comma = sequence([text(','), space])

  function itemAt(place: number): Expression {
    return allow(layouts.flatMap(({ places, rest }) => places[place] ?? rest ?? []))
  }

  /** What follows `count` items that have their own places. */
  function tail(count: number): Expression {
    if (count < numPlaces) {
      if (count >= max) return empty
      const item = rule(addRule(`${id} item ${count}`, () => itemAt(count)))
      const next = rule(addRule(`${id} ${count + 1}`, () => tail(count + 1)))
      const some = sequence([count === 0 ? space : comma, item, next])
      return count < min ? some : choice([empty, some])
    }
    const item = rule(addRule(`${id} items`, () => itemAt(numPlaces)))
    const left = max - count
    const missing = Math.max(0, min - count)
    if (left <= 0) return missing > 0 ? never : empty
    const first = sequence([count === 0 ? space : comma, item])
    const others = repeat(sequence([comma, item]), Math.max(0, missing - 1), left - 1)
    const some = sequence([first, others])
    return missing > 0 ? some : choice([empty, some])
  }

  if (min > max) return never
  return sequence([text('['), tail(0), space, text(']')])
}

interface Layout {
  readonly places: readonly Located[]
  readonly rest: Located | null
}

/** `items` as a list, with `additionalItems`, is what older drafts call prefixItems and items. */
function layoutOf(base: Base): Layout {
  const { prefixItems, items, additionalItems } = base.schema
  const isOld = Array.isArray(items)
  if (prefixItems !== undefined && (isOld || additionalItems !== undefined)) {
    throw new GrammarError(
      `${base.pointer}: prefixItems and ${isOld ? 'items as a list' : 'additionalItems'} are of ` +
        'different drafts; beside prefixItems say with items what the others are',
    )
  }
  const list = isOld ? items : prefixItems
  const name = isOld ? 'items' : 'prefixItems'
  const others = isOld ? additionalItems : items
  return {
    places: Array.isArray(list) ? list.map((_, i) => at(base, name, i)) : [],
    rest: others === undefined ? null : at(base, isOld ? 'additionalItems' : 'items'),
  }
}
