// Regular expressions as of JSON Schema, which are those of ECMAScript, without what looks around or
// back. As a whole text has to match, or as is found within one.

import { type AST, RegExpParser, visitRegExpAST } from '@eslint-community/regexpp'
import { type CodePoints, complement, type Range, unite } from './code-points.ts'
import {
  anyText,
  char,
  choice,
  type Expression,
  empty,
  GrammarError,
  repeat,
  sequence,
} from './expression.ts'

const mostChars = 20_000
/** Counts within counts: more would only be slow. */
const mostRounds = 100_000

export interface RegexOptions {
  /** It is found somewhere in the text (a schema's pattern); false: it is all of the text. */
  readonly isFound: boolean
}

/** Throws GrammarError. */
export function parseRegex(pattern: string, { isFound }: RegexOptions): Expression {
  if (pattern.length > mostChars) {
    throw new GrammarError(
      `an expression has at most ${mostChars} characters, not ${pattern.length}`,
    )
  }
  return createReader(isFound).alternatives(parse(pattern).alternatives, true, true, 1)
}

function parse(pattern: string): AST.Pattern {
  const parser = new RegExpParser({ ecmaVersion: 2024, strict: false })
  for (const text of [pattern, withoutEscapes(pattern)]) {
    try {
      return parser.parsePattern(text, 0, text.length, { unicode: true, unicodeSets: false })
    } catch {
      // Such as \- or {: characters that a strict reader would have escaped, or not escaped.
    }
  }
  let found: AST.Pattern
  try {
    found = parser.parsePattern(pattern, 0, pattern.length, { unicode: false, unicodeSets: false })
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new GrammarError(`${shown(pattern)} is no regular expression of ECMAScript: ${reason}`)
  }
  refuseOtherDialects(found)
  return found
}

/** Escapes of what needs none are left out: \- outside a class, \", \@. */
function withoutEscapes(pattern: string): string {
  const plain = (text: string, kept: RegExp) =>
    text.replace(/\\(.)/gsu, (all, one) => (kept.test(one) ? all : one))
  return pattern.replace(/\[(?:\\.|[^\]\\])*\]|\\./gsu, (part) =>
    part.startsWith('[')
      ? plain(part, /[A-Za-z0-9^$\\.*+?()[\]{}|/-]/)
      : plain(part, /[A-Za-z0-9^$\\.*+?()[\]{}|/]/),
  )
}

/**
 * A lenient reader takes for plain letters what means something elsewhere: \A, \Z, \h, \p without its
 * braces, [[:alpha:]], {,5}.
 */
function refuseOtherDialects(pattern: AST.Pattern): void {
  const other = 'what ECMAScript reads as plain characters, and others do not,'
  visitRegExpAST(pattern, {
    onCharacterEnter({ raw }) {
      if (/^\\(?:[^\W_fnrtv0]$|0\d|[1-9]|$)/.test(raw)) refuse(raw, other)
    },
    onCharacterClassEnter({ raw }) {
      if (raw.includes('[:') && raw.endsWith(':]')) refuse(raw, other)
    },
  })
  const count = /(?<!\\)\{,\d+\}/.exec(pattern.raw)
  if (count !== null) refuse(count[0], other)
}

function shown(pattern: string): string {
  return JSON.stringify(pattern.length > 80 ? `${pattern.slice(0, 80)}…` : pattern)
}

function createReader(isFound: boolean) {
  const around = isFound ? anyText : empty

  /** `first`, `last`: whether the text may begin, and end, here. */
  function alternatives(
    all: readonly AST.Alternative[],
    first: boolean,
    last: boolean,
    rounds: number,
  ): Expression {
    return choice(all.map(({ elements }) => alternative(elements, first, last, rounds)))
  }

  function alternative(
    elements: readonly AST.Element[],
    first: boolean,
    last: boolean,
    rounds: number,
  ): Expression {
    if (elements.length === 0 && first && last) return around
    const parts: Expression[] = []
    let from = 0
    let to = elements.length
    while (from < to && isAnchor(elements[from]!, 'start') && first) from++
    while (to > from && isAnchor(elements[to - 1]!, 'end') && last) to--
    const isStart = first && from === 0
    const isEnd = last && to === elements.length
    const inner = elements.slice(from, to)
    if (isStart && !isGroup(inner[0])) parts.push(around)
    for (const [i, element] of inner.entries()) {
      const isFirst = first && i === 0
      const isLast = last && i === inner.length - 1
      if (!isGroup(element)) {
        parts.push(one(element, rounds))
        continue
      }
      // An anchor outside stands for one that each alternative of the group lacks.
      const opens = isFirst && isStart
      const ends = isLast && isEnd
      parts.push(alternatives(element.alternatives, opens, ends, rounds))
    }
    if (isEnd && !isGroup(inner.at(-1))) parts.push(around)
    return sequence(parts)
  }

  function one(element: AST.Element, rounds: number): Expression {
    switch (element.type) {
      case 'Character':
      case 'CharacterSet':
      case 'CharacterClass':
        return char(pointsOf(element))
      case 'Group':
        if (element.modifiers !== null) refuse(element.raw, 'inline flags')
        return alternatives(element.alternatives, false, false, rounds)
      case 'CapturingGroup':
        return alternatives(element.alternatives, false, false, rounds)
      case 'Quantifier': {
        const { min, max } = element
        const times = Math.max(1, max === Number.POSITIVE_INFINITY ? min : max)
        if (rounds > 1 && times > 1 && rounds * times > mostRounds) {
          throw new GrammarError(
            `its counts multiply to more than ${mostRounds}: make those in {…} within one another smaller`,
          )
        }
        return repeat(one(element.element, rounds * times), min, max)
      }
      case 'Assertion':
        if (element.kind === 'start' || element.kind === 'end') {
          return refuse(element.raw, 'an anchor within the expression')
        }
        return refuse(element.raw, 'looking around')
      default:
        return refuse(element.raw, 'what refers back to a group, and other operators')
    }
  }

  return { alternatives }
}

function isAnchor(element: AST.Element, kind: 'start' | 'end'): boolean {
  return element.type === 'Assertion' && element.kind === kind
}

function isGroup(element: AST.Element | undefined): element is AST.Group | AST.CapturingGroup {
  if (element?.type === 'CapturingGroup') return true
  return element?.type === 'Group' && element.modifiers === null
}

function refuse(raw: string, what: string): never {
  throw new GrammarError(
    `${shown(raw)}: ${what} cannot be decoded by; write the expression without it`,
  )
}

const digits: CodePoints = [[0x30, 0x39]]
const word: CodePoints = unite([
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
])
const space: CodePoints = unite([
  ...([
    [9, 13],
    [0x20, 0x20],
    [0xa0, 0xa0],
    [0x1680, 0x1680],
    [0x2000, 0x200a],
  ] as const),
  ...([
    [0x2028, 0x2029],
    [0x202f, 0x202f],
    [0x205f, 0x205f],
    [0x3000, 0x3000],
  ] as const),
  [0xfeff, 0xfeff],
])
const lineEnds: CodePoints = unite([
  [10, 10],
  [13, 13],
  [0x2028, 0x2029],
])

type OfOnePoint = AST.Character | AST.CharacterSet | AST.CharacterClass | AST.CharacterClassRange

function pointsOf(element: OfOnePoint | AST.CharacterClassElement): CodePoints {
  switch (element.type) {
    case 'Character':
      return unite([[element.value, element.value]])
    case 'CharacterClassRange':
      return unite([[element.min.value, element.max.value]])
    case 'CharacterClass': {
      const ranges = element.elements.flatMap((one): readonly Range[] => {
        if (one.type === 'Character' || one.type === 'CharacterClassRange') return pointsOf(one)
        return one.type === 'CharacterSet' ? pointsOf(one) : refuse(one.raw, 'a class of that kind')
      })
      const points = unite(ranges)
      return element.negate ? complement(points) : points
    }
    case 'CharacterSet':
      return setOf(element)
    default:
      return refuse(element.raw, 'a class of that kind')
  }
}

function setOf(set: AST.CharacterSet): CodePoints {
  if (set.kind === 'any') return complement(lineEnds)
  if (set.kind === 'property') {
    if (set.strings) refuse(set.raw, 'a property of strings')
    const points = propertyOf(set.key, set.value)
    return set.negate ? complement(points) : points
  }
  const points = { digit: digits, space, word }[set.kind]
  return set.negate ? complement(points) : points
}

const properties = new Map<string, CodePoints>()

/** Such as \p{Lu}: as this Node knows them. */
function propertyOf(key: string, value: string | null): CodePoints {
  const name = value === null ? key : `${key}=${value}`
  const known = properties.get(name)
  if (known !== undefined) return known
  const test = new RegExp(`^\\p{${name}}$`, 'u')
  const ranges: Range[] = []
  let first = -1
  for (let point = 0; point <= 0x110000; point++) {
    const isIn = point < 0x110000 && test.test(String.fromCodePoint(point))
    if (isIn && first < 0) first = point
    if (isIn || first < 0) continue
    ranges.push([first, point - 1])
    first = -1
  }
  const points = unite(ranges)
  properties.set(name, points)
  return points
}
