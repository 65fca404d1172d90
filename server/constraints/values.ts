// The values of enum and const: which of them the other words let through, and how they are written.

import { matches, ofWords, toAutomaton } from '../grammar/automaton.ts'
import { choice, type Expression, GrammarError, sequence, text } from '../grammar/expression.ts'
import type { Conjunction } from './conjunction.ts'
import { formatOf } from './formats.ts'
import { patternOf, quoted } from './strings.ts'
import { isObject, type SchemaObject, type TypeName, words } from './words.ts'

type Base = Conjunction['bases'][number]

/** Undefined: no schema names its values. Throws GrammarError where other words cannot be looked at. */
export function valuesOf(bases: readonly Base[]): readonly unknown[] | undefined {
  const lists = bases.flatMap(({ schema }) => [
    ...(Array.isArray(schema.enum) ? [schema.enum as unknown[]] : []),
    ...(Object.hasOwn(schema, 'const') ? [[schema.const]] : []),
  ])
  const [first, ...others] = lists
  if (first === undefined) return undefined
  const names = others.map((list) => new Set(list.map(canonical)))
  const checks = bases.map(checkOf)
  return [...new Map(first.map((value) => [canonical(value), value]))]
    .filter(([name]) => names.every((list) => list.has(name)))
    .map(([, value]) => value)
    .filter((value) => checks.every((holds) => holds(value)))
}

/** Equal values have the same text. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (!isObject(value)) return JSON.stringify(value)
  const pairs = Object.entries(value).map(
    ([name, one]) => `${JSON.stringify(name)}:${canonical(one)}`,
  )
  return `{${pairs.sort().join(',')}}`
}

export function typesOf(value: unknown): readonly TypeName[] {
  if (value === null) return ['null']
  if (Array.isArray(value)) return ['array']
  if (typeof value === 'number') return Number.isInteger(value) ? ['integer', 'number'] : ['number']
  return [typeof value as TypeName]
}

/** Whether a value keeps to the words beside enum and const. */
function checkOf({ schema, pointer }: Base): (value: unknown) => boolean {
  const types = [schema.type].flat().filter((type) => type !== undefined)
  const patterns = [
    ...(typeof schema.pattern === 'string'
      ? [patternOf(schema.pattern, `${pointer}/pattern`)]
      : []),
    ...(typeof schema.format === 'string' ? [formatOf(schema.format, pointer)] : []),
  ].map(toAutomaton)
  return function holds(value) {
    const own = typesOf(value)
    if (types.length > 0 && !own.some((type) => types.includes(type))) return false
    if (typeof value === 'number') return holdsNumber(schema, value)
    if (typeof value === 'string') {
      const length = [...value].length
      if (length < ((schema.minLength as number) ?? 0)) return false
      if (length > ((schema.maxLength as number) ?? length)) return false
      return patterns.every((pattern) => matches(pattern, value))
    }
    const other = Object.keys(schema).find((name) => words[name]?.of === own[0])
    if (other === undefined) return true
    throw new GrammarError(
      `${pointer}/${other}: values of enum and const that are objects or arrays cannot be checked ` +
        'against other words; leave those out',
    )
  }
}

function holdsNumber(schema: SchemaObject, value: number): boolean {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema
  if (typeof minimum === 'number' && value < minimum) return false
  if (typeof maximum === 'number' && value > maximum) return false
  if (typeof exclusiveMinimum === 'number' && value <= exclusiveMinimum) return false
  if (typeof exclusiveMaximum === 'number' && value >= exclusiveMaximum) return false
  return typeof multipleOf !== 'number' || Number.isInteger(value / multipleOf)
}

/** JSON of one of the values; `space` may stand between their parts. */
export function writeValues(values: readonly unknown[], space: Expression): Expression {
  const strings = values.filter((value) => typeof value === 'string')
  const others = values.filter((value) => typeof value !== 'string')
  const options = others.map((value) => writeValue(value, space))
  if (strings.length > 0) {
    const automaton = ofWords(strings.map((value) => value.toWellFormed()))
    options.push(quoted({ kind: 'automaton', automaton, spelling: 'json' }))
  }
  return choice(options)
}

function writeValue(value: unknown, space: Expression): Expression {
  if (Array.isArray(value)) {
    return list(
      '[',
      ']',
      value.map((one) => writeValue(one, space)),
      space,
    )
  }
  if (isObject(value)) {
    const pairs = Object.entries(value).map(([name, one]) =>
      sequence([writeValue(name, space), text(':'), space, writeValue(one, space)]),
    )
    return list('{', '}', pairs, space)
  }
  if (typeof value === 'string') return quoted(text(value, 'json'))
  return text(JSON.stringify(value))
}

function list(
  open: string,
  close: string,
  items: readonly Expression[],
  space: Expression,
): Expression {
  const parts = items.flatMap((item, i) => (i === 0 ? [space, item] : [text(','), space, item]))
  return sequence([text(open), ...parts, space, text(close)])
}
