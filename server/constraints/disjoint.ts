// Whether two branches of oneOf can hold at once. They cannot where their types differ, where their
// values do, or where both require a property (`kind`, say) whose schemas cannot hold at once.

import { at, type Conjunction, type Located } from './conjunction.ts'
import { canonical, typesOf, valuesOf } from './values.ts'
import type { TypeName } from './words.ts'

const deepest = 3

export interface DisjointTools {
  readonly flatten: (all: readonly Located[]) => Conjunction
  /** Of the answers that they get, and of all that is valid: without `type` that is any type. */
  readonly typesOf: (bases: Conjunction['bases'], of: 'answers' | 'all') => ReadonlySet<TypeName>
}

/** False: perhaps they can. */
export function areDisjoint(
  one: readonly Located[],
  other: readonly Located[],
  tools: DisjointTools,
  depth = 0,
): boolean {
  const a = tools.flatten(one)
  const b = tools.flatten(other)
  if (a.isNever || b.isNever) return true
  const branches = a.groups[0]?.branches
  if (branches !== undefined && depth < deepest) {
    return branches.every((branch) => areDisjoint([branch], other, tools, depth + 1))
  }
  const otherBranches = b.groups[0]?.branches
  if (otherBranches !== undefined && depth < deepest) {
    return otherBranches.every((branch) => areDisjoint(one, [branch], tools, depth + 1))
  }
  const values = valuesOf(a.bases)
  const otherValues = valuesOf(b.bases)
  if (values !== undefined && otherValues !== undefined) {
    const names = new Set(values.map(canonical))
    return !otherValues.some((value) => names.has(canonical(value)))
  }
  // An answer of one is no instance of the other, and the other way round.
  const shared = [
    ...sharedTypes(
      typesOfAll(values, a, 'answers', tools),
      typesOfAll(otherValues, b, 'all', tools),
    ),
    ...sharedTypes(
      typesOfAll(values, a, 'all', tools),
      typesOfAll(otherValues, b, 'answers', tools),
    ),
  ]
  if (shared.length === 0) return true
  if (shared.some((type) => type !== 'object') || depth >= deepest) return false
  const required = requiredOf(a.bases).filter((name) => requiredOf(b.bases).includes(name))
  return required.some((name) => {
    const [mine, its] = [propertyOf(a.bases, name), propertyOf(b.bases, name)]
    return mine.length > 0 && its.length > 0 && areDisjoint(mine, its, tools, depth + 1)
  })
}

function typesOfAll(
  values: readonly unknown[] | undefined,
  { bases }: Conjunction,
  of: 'answers' | 'all',
  tools: DisjointTools,
): ReadonlySet<TypeName> {
  return values === undefined ? tools.typesOf(bases, of) : new Set(values.flatMap(typesOf))
}

/** A whole number is a number. */
function sharedTypes(some: ReadonlySet<TypeName>, others: ReadonlySet<TypeName>): TypeName[] {
  return [...some].filter(
    (type) =>
      others.has(type) ||
      (type === 'integer' && others.has('number')) ||
      (type === 'number' && others.has('integer')),
  )
}

function requiredOf(bases: Conjunction['bases']): string[] {
  return bases.flatMap(({ schema }) => (schema.required as string[] | undefined) ?? [])
}

function propertyOf(bases: Conjunction['bases'], name: string): Located[] {
  return bases.flatMap((base) =>
    Object.hasOwn((base.schema.properties as object | undefined) ?? {}, name)
      ? [at(base, 'properties', name)]
      : [],
  )
}
