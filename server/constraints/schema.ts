// A JSON Schema as a grammar: every text of it is JSON that validates. Not every valid text is one of
// it: properties keep the schema's order, white space is little, numbers have at most 15 digits.

import { type Automaton, intersect, ofWords, toAutomaton } from '../grammar/automaton.ts'
import { anyPoint } from '../grammar/code-points.ts'
import {
  char,
  choice,
  type Expression,
  type Grammar,
  GrammarError,
  never,
  optional,
  repeat,
  rule,
  sequence,
  text,
} from '../grammar/expression.ts'
import { arrays } from './arrays.ts'
import { type Conjunction, flatten, type Group, type Located, locate } from './conjunction.ts'
import { areDisjoint } from './disjoint.ts'
import { integers, multiples, type NumberRange, numbers, numbersBetween } from './numbers.ts'
import { objects } from './objects.ts'
import { quoted, stringAutomaton, stringRulesOf, strings, within } from './strings.ts'
import { valuesOf, writeValues } from './values.ts'
import { isSchema, type Schema, shown, type TypeName, words } from './words.ts'

const mostChars = 1_000_000
const mostRules = 50_000
const largestDivisor = 2000
/** An automaton has a state for each of their digits and remainders. */
const digitsOfMultiples = 7

const allTypes: readonly TypeName[] = ['object', 'array', 'string', 'number', 'boolean', 'null']
const any = rule('any')
export const space = rule('space')

/** Rules that every schema may use. */
function commonRules(): Map<string, Expression> {
  const line = (indent: string, most: number) =>
    sequence([text('\n'), repeat(text(indent), 0, most)])
  const comma = sequence([text(','), space])
  const name = quoted(repeat(char(anyPoint, 'json'), 0, Number.POSITIVE_INFINITY))
  const pair = sequence([rule('any string'), text(':'), space, any])
  const list = (item: Expression) =>
    optional(sequence([space, item, repeat(sequence([comma, item]), 0, Number.POSITIVE_INFINITY)]))
  return new Map<string, Expression>([
    ['space', optional(choice([text(' '), line(' ', 16), line('\t', 8)]))],
    ['any string', name],
    ['any object', sequence([text('{'), list(pair), space, text('}')])],
    ['any array', sequence([text('['), list(any), space, text(']')])],
    ['any number', numbers],
    [
      'any',
      choice([
        ...['any object', 'any array', 'any string', 'any number'].map(rule),
        ...['true', 'false', 'null'].map((word) => text(word)),
      ]),
    ],
  ])
}

/** Any JSON object. */
export function anyObject(): Grammar {
  return { root: rule('any object'), rules: commonRules() }
}

/**
 * Throws GrammarError: the schema's text is no JSON, is no schema, or has words that cannot be kept to.
 * `only`: which of its texts are meant.
 */
export function parseSchema(source: string, only: 'any' | 'object' = 'any'): Grammar {
  if (source.length > mostChars) {
    throw new GrammarError(`a schema has at most ${mostChars} characters, not ${source.length}`)
  }
  let root: unknown
  try {
    root = JSON.parse(source)
  } catch {
    throw new GrammarError('its text is not JSON')
  }
  if (!isSchema(root)) {
    throw new GrammarError(`a schema is an object, true or false, not ${shown(root)}`)
  }
  return compile(root, only === 'any' ? [] : [anObject])
}

/** No place of the document: it is known by its key. */
const anObject: Located = { schema: { type: 'object' }, pointer: '#', key: 'object' }

/** What the root and the schemas beside it allow. */
function compile(root: Schema, beside: readonly Located[]): Grammar {
  const rules = commonRules()
  const pending: (() => void)[] = []
  const tools = { flatten: (all: readonly Located[]) => flatten(all, root), typesOf: typesOfBases }

  /** Built later: a schema may contain itself. */
  function addRule(name: string, expression: () => Expression): string {
    if (rules.has(name)) return name
    if (rules.size >= mostRules) {
      throw new GrammarError(
        `it needs more than ${mostRules} rules: combine fewer schemas by allOf, anyOf and $ref`,
      )
    }
    rules.set(name, never)
    pending.push(() => rules.set(name, expression()))
    return name
  }

  /** What all of these schemas allow, and one of each group. */
  function allow(all: readonly Located[], groups: readonly Group[] = []): Expression {
    const parts = [...all.map(({ key }) => key), ...groups.map(({ pointer }) => `${pointer}?`)]
    const name = [...new Set(parts)].sort().join(' & ')
    if (name === '') return any
    return rule(addRule(name, () => conjunction(flatten(all, root, groups), name)))
  }

  function conjunction({ bases, groups, isNever }: Conjunction, id: string): Expression {
    if (isNever) return never
    const [group, ...others] = groups
    if (group === undefined) return plain(bases, id)
    if (group.isExclusive) requireDisjoint(group, bases)
    return choice(group.branches.map((branch) => allow([...bases, branch], others)))
  }

  function requireDisjoint({ branches, pointer }: Group, bases: Conjunction['bases']): void {
    for (const [i, branch] of branches.entries()) {
      for (const [j, other] of branches.slice(0, i).entries()) {
        if (areDisjoint([...bases, branch], [...bases, other], tools)) continue
        throw new GrammarError(
          `${pointer}: branches ${j} and ${i} may hold at once, which answers cannot be decoded by; ` +
            'give each a type of its own, or both a required property with different const values, ' +
            'or write anyOf',
        )
      }
    }
  }

  function plain(bases: Conjunction['bases'], id: string): Expression {
    const values = valuesOf(bases)
    if (values !== undefined) return writeValues(values, space)
    return choice([...typesOfBases(bases)].map((type) => ofType(type, bases, id)))
  }

  function ofType(type: TypeName, bases: Conjunction['bases'], id: string): Expression {
    const own = bases.filter(({ schema }) =>
      Object.keys(schema).some(
        (name) => words[name]?.of === (type === 'integer' ? 'number' : type),
      ),
    )
    switch (type) {
      case 'null':
        return text('null')
      case 'boolean':
        return choice([text('true'), text('false')])
      case 'string':
        if (own.length === 0) return rule('any string')
        // The same strings at several places are one rule.
        return rule(
          addRule(`string ${JSON.stringify(own.map(stringWords))}`, () =>
            within(own[0]!.pointer, () => strings(stringRulesOf(own))),
          ),
        )
      case 'integer':
      case 'number':
        return numbersOf(own, type === 'integer')
      case 'array':
        if (own.length === 0) return rule('any array')
        return arrays(own, { allow, addRule, space, id: `${id} array` })
      case 'object':
        if (own.length === 0) return rule('any object')
        return objects(own, { allow, namesOf, addRule, space, id: `${id} object` })
    }
  }

  function namesOf(all: readonly Located[]): Automaton | null {
    if (all.length === 0) return null
    const { bases, groups, isNever } = flatten(all, root)
    if (groups.length > 0) {
      throw new GrammarError(`${groups[0]!.pointer}: names cannot be decoded by anyOf and oneOf`)
    }
    const values = valuesOf(bases)?.filter((value) => typeof value === 'string')
    if (isNever || !typesOfBases(bases).has('string')) return ofWords([])
    const rules = stringAutomaton(stringRulesOf(bases))
    if (values === undefined) return rules
    return rules === null ? ofWords(values) : intersect(ofWords(values), rules)
  }

  const start = allow([locate(root, '#'), ...beside])
  for (let build = pending.pop(); build !== undefined; build = pending.pop()) build()
  return { root: start, rules }
}

/** Those that are named; without a name those that the words are about, for answers; else all. */
function typesOfBases(
  bases: Conjunction['bases'],
  of: 'answers' | 'all' = 'answers',
): ReadonlySet<TypeName> {
  const named = bases.map(({ schema }) => schema.type).filter((type) => type !== undefined)
  if (named.length > 0) {
    const lists = named.map((type) => [type].flat() as TypeName[])
    const all = [...new Set(lists[0])].flatMap((type): TypeName[] => {
      // A whole number is a number.
      const holds = (one: TypeName) =>
        lists.every((list) => list.includes(one) || (one === 'integer' && list.includes('number')))
      if (holds(type)) return [type]
      return type === 'number' && holds('integer') ? ['integer'] : []
    })
    const types = new Set(all)
    if (types.has('number')) types.delete('integer')
    return types
  }
  if (of === 'all') return new Set(allTypes)
  const about = bases.flatMap(({ schema }) =>
    Object.keys(schema).flatMap((name) => words[name]?.of ?? []),
  )
  return new Set(about.length > 0 ? about : allTypes)
}

function numbersOf(bases: Conjunction['bases'], isWhole: boolean): Expression {
  const range = rangeOf(bases)
  const divisors = bases.flatMap(({ schema, pointer }) => {
    const { multipleOf } = schema
    if (typeof multipleOf !== 'number') return []
    if (Number.isInteger(multipleOf) && multipleOf <= largestDivisor) return [multipleOf]
    throw new GrammarError(
      `${pointer}/multipleOf: answers can be decoded by whole numbers up to ${largestDivisor}, not ` +
        `${multipleOf}; leave it out`,
    )
  })
  const pointer = bases[0]?.pointer ?? ''
  const isOpen = range.min === null && range.max === null
  if (divisors.length === 0 && !isWhole) {
    return isOpen ? rule('any number') : within(pointer, () => numbersBetween(range))
  }
  if (divisors.length === 0) return integers(range)
  const whole = integers(range, digitsOfMultiples)
  return within(pointer, () => {
    const all = [toAutomaton(whole), ...divisors.map(multiples)]
    return { kind: 'automaton', automaton: all.reduce(intersect), spelling: 'plain' }
  })
}

function rangeOf(bases: Conjunction['bases']): NumberRange {
  const range = { min: null, max: null, isMinExcluded: false, isMaxExcluded: false } as {
    -readonly [Key in keyof NumberRange]: NumberRange[Key]
  }
  for (const { schema } of bases) {
    for (const [name, isExcluded] of [
      ['minimum', false],
      ['exclusiveMinimum', true],
    ] as const) {
      const bound = schema[name]
      if (typeof bound !== 'number' || (range.min !== null && bound < range.min)) continue
      range.isMinExcluded = isExcluded || (bound === range.min && range.isMinExcluded)
      range.min = bound
    }
    for (const [name, isExcluded] of [
      ['maximum', false],
      ['exclusiveMaximum', true],
    ] as const) {
      const bound = schema[name]
      if (typeof bound !== 'number' || (range.max !== null && bound > range.max)) continue
      range.isMaxExcluded = isExcluded || (bound === range.max && range.isMaxExcluded)
      range.max = bound
    }
  }
  return range
}

function stringWords({ schema }: Conjunction['bases'][number]): unknown {
  const { minLength, maxLength, pattern, format } = schema
  return [minLength, maxLength, pattern, format]
}
