// Strings of a schema: their lengths, expressions and formats, between quotation marks.

import { type Automaton, anyWord, intersect, ofLength, toAutomaton } from '../grammar/automaton.ts'
import { anyPoint } from '../grammar/code-points.ts'
import {
  char,
  type Expression,
  GrammarError,
  repeat,
  sequence,
  spelledAsJson,
  text,
} from '../grammar/expression.ts'
import { parseRegex } from '../grammar/regex.ts'
import type { Conjunction } from './conjunction.ts'
import { formatOf } from './formats.ts'

/** What is between the quotation marks, or a property's name. */
export interface StringRules {
  readonly min: number
  readonly max: number
  readonly expressions: readonly Expression[]
}

export function stringRulesOf(bases: Conjunction['bases']): StringRules {
  let min = 0
  let max = Number.POSITIVE_INFINITY
  const expressions: Expression[] = []
  for (const { schema, pointer } of bases) {
    min = Math.max(min, (schema.minLength as number | undefined) ?? 0)
    max = Math.min(max, (schema.maxLength as number | undefined) ?? max)
    if (typeof schema.format === 'string') expressions.push(formatOf(schema.format, pointer))
    if (typeof schema.pattern === 'string') {
      expressions.push(patternOf(schema.pattern, `${pointer}/pattern`))
    }
  }
  return { min, max, expressions }
}

export function patternOf(pattern: string, pointer: string): Expression {
  return within(pointer, () => parseRegex(pattern, { isFound: true }))
}

/** Says where it is that something is wrong. */
export function within<Result>(pointer: string, run: () => Result): Result {
  try {
    return run()
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error
    throw new GrammarError(`${pointer}: ${error.message}`)
  }
}

/** Null: there are no rules. */
export function stringAutomaton({ min, max, expressions }: StringRules): Automaton | null {
  const isFree = min === 0 && max === Number.POSITIVE_INFINITY
  if (expressions.length === 0 && isFree) return null
  const all = expressions.length === 0 ? anyWord : expressions.map(toAutomaton).reduce(intersect)
  return isFree ? all : ofLength(all, min, max)
}

/** A JSON string. */
export function strings(rules: StringRules): Expression {
  return quoted(content(rules))
}

function content(rules: StringRules): Expression {
  const { min, max, expressions } = rules
  if (expressions.length === 0) return repeat(char(anyPoint, 'json'), min, max)
  const isFree = min === 0 && max === Number.POSITIVE_INFINITY
  if (isFree && expressions.length === 1) return spelledAsJson(expressions[0]!)
  return { kind: 'automaton', automaton: stringAutomaton(rules)!, spelling: 'json' }
}

export function quoted(inner: Expression): Expression {
  return sequence([text('"'), inner, text('"')])
}
