// Grammars as llama.cpp (GBNF) and vLLM's xgrammar take them: rules `name ::= …` with "text", [set],
// (group), | and the repetitions * + ? {n,m}. The first rule to be applied is `root`.

import { type CodePoints, complement, type Range, unite } from './code-points.ts'
import {
  char,
  choice,
  type Expression,
  type Grammar,
  GrammarError,
  repeat,
  rule,
  sequence,
  text,
} from './expression.ts'

const mostChars = 200_000
const deepest = 200
const namePattern = /[A-Za-z_][A-Za-z0-9_-]*/y
const countPattern = /\{\s*(\d{1,7})\s*(?:(,)\s*(\d{1,7})?\s*)?\}/y
const blankPattern = /(?:[ \t]|#[^\n\r]*)+/y
const linesPattern = /(?:\s|#[^\n\r]*)+/y
const assignPattern = /::=/y

/** Throws GrammarError, with the line. */
export function parseEbnf(source: string): Grammar {
  if (source.length > mostChars) {
    throw new GrammarError(`a grammar has at most ${mostChars} characters, not ${source.length}`)
  }
  const rules = new Map<string, Expression>()
  let at = 0

  function fail(what: string): never {
    const line = source.slice(0, at).split('\n').length
    const found = at < source.length ? JSON.stringify(source.slice(at, at + 20)) : 'its end'
    throw new GrammarError(`line ${line}: ${what}, not ${found}`)
  }

  function match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = at
    const found = pattern.exec(source)
    if (found !== null) at = pattern.lastIndex
    return found
  }

  function take(expected: string): boolean {
    if (!source.startsWith(expected, at)) return false
    at += expected.length
    return true
  }

  /** Within parentheses a line may end anywhere; outside, what begins a rule ends the one before. */
  function skip(depth: number): void {
    if (depth > 0) {
      match(linesPattern)
      return
    }
    match(blankPattern)
    const before = at
    if (match(linesPattern) === null) return
    // A line that goes on with | or with anything but a rule's head belongs to the same rule.
    const next = at
    if (at === source.length || isHead()) at = before
    else at = next
  }

  function isHead(): boolean {
    const before = at
    const hasName = match(namePattern) !== null
    match(blankPattern)
    const isOne = hasName && match(assignPattern) !== null
    at = before
    return isOne
  }

  function alternatives(depth: number): Expression {
    if (depth > deepest) fail(`at most ${deepest} groups within one another are expected`)
    const options = [concatenation(depth)]
    while (take('|')) {
      skip(depth)
      options.push(concatenation(depth))
    }
    return choice(options)
  }

  function concatenation(depth: number): Expression {
    const parts: Expression[] = []
    skip(depth)
    for (let part = primary(depth); part !== null; part = primary(depth)) {
      parts.push(repeated(part, depth))
      skip(depth)
    }
    return sequence(parts)
  }

  function repeated(body: Expression, depth: number): Expression {
    if (take('*')) return repeated(repeat(body, 0, Number.POSITIVE_INFINITY), depth)
    if (take('+')) return repeated(repeat(body, 1, Number.POSITIVE_INFINITY), depth)
    if (take('?')) return repeated(repeat(body, 0, 1), depth)
    const count = match(countPattern)
    if (count === null) return source[at] === '{' ? fail('a count such as {2,5} is expected') : body
    const min = Number(count[1])
    const max =
      count[2] === undefined
        ? min
        : count[3] === undefined
          ? Number.POSITIVE_INFINITY
          : Number(count[3])
    if (max < min) fail(`a count that ends at ${min} or more is expected`)
    return repeated(repeat(body, min, max), depth)
  }

  function primary(depth: number): Expression | null {
    if (take('"')) return literal()
    if (take('[')) return char(set())
    if (take('(')) {
      const group = alternatives(depth + 1)
      match(linesPattern)
      if (!take(')')) fail('a closing parenthesis is expected')
      return group
    }
    if (take('.')) return char(complement([]))
    if (depth === 0 && isHead()) return null
    const name = match(namePattern)
    return name === null ? null : rule(name[0])
  }

  function literal(): Expression {
    const points: number[] = []
    while (!take('"')) points.push(point('a closing quotation mark'))
    return text(String.fromCodePoint(...points))
  }

  function set(): CodePoints {
    const isNegated = take('^')
    const ranges: Range[] = []
    while (!take(']')) {
      const first = point('a closing bracket')
      let last = first
      if (source[at] === '-' && source[at + 1] !== ']') {
        at++
        last = point('the end of a range')
      }
      if (last < first) fail('a range that ends behind its beginning is expected')
      ranges.push([first, last])
    }
    return isNegated ? complement(unite(ranges)) : unite(ranges)
  }

  /** One character, perhaps escaped. */
  function point(expected: string): number {
    if (at >= source.length || source[at] === '\n') fail(`${expected} is expected`)
    const code = source.codePointAt(at)!
    at += code > 0xffff ? 2 : 1
    if (code !== backslash) return code
    const escaped = readEscape(source, at)
    if (typeof escaped === 'string') return fail(`${escaped} is expected`)
    at = escaped.end
    return escaped.code
  }

  match(linesPattern)
  while (at < source.length) {
    const name = match(namePattern)?.[0] ?? fail('a rule "name ::= …" is expected')
    match(blankPattern)
    if (!take('::=')) fail('::= is expected')
    if (rules.has(name)) fail(`one rule ${JSON.stringify(name)} is expected`)
    rules.set(name, alternatives(0))
    match(linesPattern)
  }
  if (!rules.has('root')) {
    throw new GrammarError('it has no rule `root`: name the one that the whole answer follows so')
  }
  return { root: rule('root'), rules }
}

const backslash = 0x5c

/** What is escaped, and where it ends; else what should stand there. */
function readEscape(source: string, at: number): { code: number; end: number } | string {
  const letter = source[at] ?? ''
  const length = { x: 2, u: 4, U: 8 }[letter]
  const end = at + 1 + (length ?? 0)
  if (length !== undefined) {
    const hex = source.slice(at + 1, end)
    const code = Number.parseInt(hex, 16)
    if (/^[0-9A-Fa-f]+$/.test(hex) && hex.length === length && code <= 0x10ffff)
      return { code, end }
    return `${length} hexadecimal digits of a code point`
  }
  const short = { n: 10, r: 13, t: 9, '0': 0 }[letter]
  if (short !== undefined) return { code: short, end }
  if (/[\\"'[\]^\-/.(){}|?*+$]/.test(letter)) return { code: letter.charCodeAt(0), end }
  return 'an escape such as \\n, \\" or \\x41'
}
