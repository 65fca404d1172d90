// Objects of a schema. Properties come in the order in which the schema names them, then others; those
// that need not be there may be left out. A name that is declared is never written as another's, so
// that no name comes twice with two meanings. Where properties are named and nothing is said of others,
// there are no others, as with vLLM: a small model would go on naming some.

import {
  type Automaton,
  complement,
  intersect,
  matches,
  ofWords,
  toAutomaton,
} from '../grammar/automaton.ts'
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
import { patternOf, quoted, within } from './strings.ts'
import { isObject } from './words.ts'

export interface ObjectTools {
  /** What all of these schemas allow. */
  readonly allow: (all: readonly Located[]) => Expression
  /** Names that all of these schemas allow; null: any. */
  readonly namesOf: (all: readonly Located[]) => Automaton | null
  /** A rule of its own, that others may share; returns its name. */
  readonly addRule: (name: string, expression: () => Expression) => string
  readonly space: Expression
  /** Unique among objects. */
  readonly id: string
}

type Bases = Conjunction['bases']

interface Pair {
  readonly isRequired: boolean
  readonly expression: Expression
}

/** Names × counts: more would only be slow. */
const mostTails = 20_000

export function objects(bases: Bases, tools: ObjectTools): Expression {
  const { allow, namesOf, addRule, space, id } = tools
  const patterns = patternsOf(bases)
  const names = namesOf(bases.flatMap((base) => propertyOf(base, 'propertyNames') ?? []))
  const required = new Set(bases.flatMap(({ schema }) => (schema.required as string[]) ?? []))
  const declared = new Set([
    ...bases.flatMap(({ schema }) => Object.keys((schema.properties as object) ?? {})),
    ...required,
  ])
  const min = Math.max(0, ...bases.map(({ schema }) => (schema.minProperties as number) ?? 0))
  const max = Math.min(
    ...bases.map(({ schema }) => (schema.maxProperties as number) ?? Number.POSITIVE_INFINITY),
  )

  /** What a property of that name must be. */
  function schemasOf(name: string): Located[] {
    return bases.flatMap((base, i) => {
      const own = Object.hasOwn((base.schema.properties as object) ?? {}, name)
        ? [at(base, 'properties', name)]
        : []
      const matching = patterns.filter((one) => one.base === i && matches(one.automaton, name))
      const all = [...own, ...matching.map(({ located }) => located)]
      return all.length > 0 ? all : (propertyOf(base, 'additionalProperties') ?? [])
    })
  }

  function pair(name: Expression, value: Expression): Expression {
    return sequence([name, text(':'), space, value])
  }

  const pairs: Pair[] = []
  for (const name of declared) {
    const isWritable = (names === null || matches(names, name)) && name.isWellFormed()
    const value = isWritable ? allow(schemasOf(name)) : never
    const expression = pair(quoted(text(name, 'json')), value)
    pairs.push({ isRequired: required.has(name), expression })
  }

  /** Pairs of names that are not declared. */
  function others(): Expression {
    const options: Expression[] = []
    const free = complement(ofWords([...declared]))
    const allowed = names === null ? free : intersect(free, names)
    const additional = bases.flatMap((base) => propertyOf(base, 'additionalProperties') ?? [])
    const none = patterns.reduce(
      (rest, { automaton }) => intersect(rest, complement(automaton)),
      allowed,
    )
    options.push(pair(writeName(none), allow(additional)))
    for (const one of patterns) {
      const apart = patterns.filter((other) => other.source !== one.source)
      const alike = patterns.filter((other) => other.source === one.source)
      const own = apart.reduce(
        (rest, { automaton }) => intersect(rest, complement(automaton)),
        intersect(allowed, one.automaton),
      )
      const unmatched = bases.flatMap((base, i) =>
        alike.some((other) => other.base === i)
          ? []
          : (propertyOf(base, 'additionalProperties') ?? []),
      )
      const value = allow([...alike.map(({ located }) => located), ...unmatched])
      options.push(pair(writeName(own), value))
    }
    return choice(options)
  }

  const isOpen = mayHaveOthers(bases, min > declared.size)
  const other = isOpen
    ? within(bases[0]!.pointer, () => rule(addRule(`${id} others`, others)))
    : null
  const counts = min > 0 || max < Number.POSITIVE_INFINITY
  if (counts) requireCountable(bases[0]!.pointer, { min, max, pairs, isOpen })

  /** What follows when `i` of the declared ones are behind and `count` properties are written. */
  function tail(i: number, count: number): Expression {
    if (i === pairs.length) return otherTail(count)
    // Without counts only the first differs: no comma comes before it.
    const after = counts ? count + 1 : 1
    const { isRequired, expression } = pairs[i]!
    const comma = count === 0 ? space : sequence([text(','), space])
    const written = count < max ? sequence([comma, expression, tailRule(i + 1, after)]) : never
    return isRequired ? written : choice([written, tailRule(i + 1, count)])
  }

  function tailRule(i: number, count: number): Expression {
    return rule(addRule(`${id} ${i} ${count}`, () => tail(i, count)))
  }

  function otherTail(count: number): Expression {
    const missing = Math.max(0, min - count)
    if (other === null) return missing > 0 ? never : empty
    const left = max - count
    const first = count === 0 ? sequence([space, other]) : sequence([text(','), space, other])
    const next = sequence([text(','), space, other])
    const some =
      left > 0 ? sequence([first, repeat(next, Math.max(0, missing - 1), left - 1)]) : never
    return missing > 0 ? some : choice([empty, some])
  }

  return sequence([text('{'), tailRule(0, 0), space, text('}')])
}

function writeName(automaton: Automaton): Expression {
  return quoted({ kind: 'automaton', automaton, spelling: 'json' })
}

/** `must`: there are too few declared ones. */
function mayHaveOthers(bases: Bases, must: boolean): boolean {
  const isSaid = bases.some(
    ({ schema }) => schema.additionalProperties !== undefined || hasPatterns(schema),
  )
  if (!isSaid) return must || !bases.some(({ schema }) => schema.properties !== undefined)
  return !bases.some(({ schema }) => schema.additionalProperties === false && !hasPatterns(schema))
}

function hasPatterns({ patternProperties }: Bases[number]['schema']): boolean {
  return isObject(patternProperties) && Object.keys(patternProperties).length > 0
}

function propertyOf(base: Bases[number], name: string): Located[] | undefined {
  return base.schema[name] === undefined ? undefined : [at(base, name)]
}

interface Pattern {
  /** Index of the schema that has it. */
  readonly base: number
  readonly source: string
  readonly automaton: Automaton
  readonly located: Located
}

function patternsOf(bases: Bases): Pattern[] {
  return bases.flatMap((base, i) =>
    Object.keys((base.schema.patternProperties as object) ?? {}).map((source) => {
      const located = at(base, 'patternProperties', source)
      const automaton = within(located.pointer, () =>
        toAutomaton(patternOf(source, located.pointer)),
      )
      return { base: i, source, automaton, located }
    }),
  )
}

interface Counting {
  readonly min: number
  readonly max: number
  readonly pairs: readonly Pair[]
  readonly isOpen: boolean
}

/** Names that are not declared may be the same one twice, so only one of them is sure to count. */
function requireCountable(pointer: string, { min, max, pairs, isOpen }: Counting): void {
  const numRequired = pairs.filter(({ isRequired }) => isRequired).length
  if (isOpen && min > numRequired + 1) {
    throw new GrammarError(
      `${pointer}/minProperties: ${min} is more than one above the ${numRequired} required properties; ` +
        'name more of them in required',
    )
  }
  if (pairs.length * Math.min(max, pairs.length + 1) <= mostTails) return
  throw new GrammarError(
    `${pointer}: minProperties and maxProperties cannot be counted over ${pairs.length} properties; ` +
      'leave them out',
  )
}
