// What a text may be, as a tree: the common form that expressions, schemas and grammars are read into.

import type { Automaton } from './automaton.ts'
import { anyPoint, type CodePoints, pointsOf } from './code-points.ts'

/** How a character is written: as it is, or as JSON writes it within a string. */
export type Spelling = 'plain' | 'json'

export type Expression =
  | { readonly kind: 'char'; readonly points: CodePoints; readonly spelling: Spelling }
  | { readonly kind: 'sequence'; readonly parts: readonly Expression[] }
  /** None: nothing matches. */
  | { readonly kind: 'choice'; readonly options: readonly Expression[] }
  | {
      readonly kind: 'repeat'
      readonly body: Expression
      readonly min: number
      /** May be Infinity. */
      readonly max: number
    }
  | { readonly kind: 'rule'; readonly name: string }
  | { readonly kind: 'automaton'; readonly automaton: Automaton; readonly spelling: Spelling }

export interface Grammar {
  readonly root: Expression
  readonly rules: ReadonlyMap<string, Expression>
}

/** Why there is no grammar: rule, value and remedy, for whoever sent it. */
export class GrammarError extends Error {
  override readonly name = 'GrammarError'
}

export const empty: Expression = { kind: 'sequence', parts: [] }
export const never: Expression = { kind: 'choice', options: [] }

export function char(points: CodePoints, spelling: Spelling = 'plain'): Expression {
  return { kind: 'char', points, spelling }
}

export function text(value: string, spelling: Spelling = 'plain'): Expression {
  return sequence([...value].map((one) => char(pointsOf(one), spelling)))
}

export function sequence(parts: readonly Expression[]): Expression {
  return parts.length === 1 ? parts[0]! : { kind: 'sequence', parts }
}

export function choice(options: readonly Expression[]): Expression {
  return options.length === 1 ? options[0]! : { kind: 'choice', options }
}

/** Nothing matches where `min` is above `max`. */
export function repeat(body: Expression, min: number, max: number): Expression {
  return min > max ? never : { kind: 'repeat', body, min, max }
}

export function optional(body: Expression): Expression {
  return repeat(body, 0, 1)
}

export function rule(name: string): Expression {
  return { kind: 'rule', name }
}

export const anyText = repeat(char(anyPoint), 0, Number.POSITIVE_INFINITY)

/** The same characters, spelled as within a JSON string. */
export function spelledAsJson(expression: Expression): Expression {
  switch (expression.kind) {
    case 'char':
    case 'automaton':
      return { ...expression, spelling: 'json' }
    case 'sequence':
      return { kind: 'sequence', parts: expression.parts.map(spelledAsJson) }
    case 'choice':
      return { kind: 'choice', options: expression.options.map(spelledAsJson) }
    case 'repeat':
      return { ...expression, body: spelledAsJson(expression.body) }
    case 'rule':
      return expression
  }
}
