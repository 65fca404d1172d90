// Numbers between bounds, as text. Of a number there are at most 15 digits: so many are told apart by
// doubles, and a text that keeps to a bound does so as a double, too.

import { type Automaton, intersect, toAutomaton } from '../grammar/automaton.ts'
import { type CodePoints, unite } from '../grammar/code-points.ts'
import {
  char,
  choice,
  type Expression,
  empty,
  GrammarError,
  never,
  optional,
  repeat,
  sequence,
  text,
} from '../grammar/expression.ts'

export interface NumberRange {
  readonly min: number | null
  readonly max: number | null
  readonly isMinExcluded: boolean
  readonly isMaxExcluded: boolean
}

const mostDigits = 15
const zero = 0x30

function digits(first: number, last: number): CodePoints {
  return unite([[zero + first, zero + last]])
}
const digit = char(digits(0, 9))
const nonZero = char(digits(1, 9))

// ---- Whole numbers ----

/** Whole numbers of a range; of so many digits where it has no end. */
export function integers(
  { min, max, isMinExcluded, isMaxExcluded }: NumberRange,
  numDigits = mostDigits,
): Expression {
  const mostWhole = 10n ** BigInt(numDigits) - 1n
  let low = min === null ? null : BigInt(Math.ceil(min))
  let high = max === null ? null : BigInt(Math.floor(max))
  if (low !== null && isMinExcluded && Number(low) === min) low++
  if (high !== null && isMaxExcluded && Number(high) === max) high--
  low ??= high !== null && high < -mostWhole ? high * 10n : -mostWhole
  high ??= low > mostWhole ? low * 10n : mostWhole
  if (low > high) return never
  const options: Expression[] = []
  if (high >= 0n) options.push(wholes(low < 0n ? 0n : low, high))
  if (low < 0n) options.push(sequence([text('-'), wholes(high < 0n ? -high : 1n, -low)]))
  return choice(options)
}

/** Of whole numbers, 0 ≤ low ≤ high. */
function wholes(low: bigint, high: bigint): Expression {
  const options: Expression[] = []
  for (let from = low; from <= high; ) {
    const { length } = String(from)
    const end = 10n ** BigInt(length) - 1n
    const to = end < high ? end : high
    options.push(between(String(from), String(to)))
    from = to + 1n
  }
  return choice(options)
}

/** Of the same number of digits. */
function between(low: string, high: string): Expression {
  if (low === '') return empty
  const [a, b] = [Number(low[0]), Number(high[0])]
  const restLow = low.slice(1)
  const restHigh = high.slice(1)
  const zeros = '0'.repeat(restLow.length)
  const nines = '9'.repeat(restLow.length)
  if (a === b) return sequence([text(low[0]!), between(restLow, restHigh)])
  const options: Expression[] = []
  const isLowWhole = restLow === zeros
  const isHighWhole = restHigh === nines
  if (!isLowWhole) options.push(sequence([text(low[0]!), between(restLow, nines)]))
  const [first, last] = [isLowWhole ? a : a + 1, isHighWhole ? b : b - 1]
  if (first <= last) {
    options.push(
      sequence([char(digits(first, last)), repeat(digit, restLow.length, restLow.length)]),
    )
  }
  if (!isHighWhole) options.push(sequence([text(high[0]!), between(zeros, restHigh)]))
  return choice(options)
}

/** Whole numbers that `divisor` divides, of a few thousand at most. */
export function multiples(divisor: number): Automaton {
  const points = (value: number) => digits(value, value)
  const targetOf = (rest: number, value: number) => 3 + ((rest * 10 + value) % divisor)
  const edgesOf = (rest: number, from: number) =>
    Array.from({ length: 10 - from }, (_, i) => ({
      points: points(from + i),
      target: targetOf(rest, from + i),
    }))
  const zeroEdge = { points: points(0), target: 2 }
  const states = [
    {
      isFinal: false,
      edges: [...edgesOf(0, 1), zeroEdge, { points: unite([[0x2d, 0x2d]]), target: 1 }],
    },
    { isFinal: false, edges: edgesOf(0, 1) },
    { isFinal: true, edges: [] },
  ]
  for (let rest = 0; rest < divisor; rest++) {
    states.push({ isFinal: rest === 0, edges: edgesOf(rest, 0) })
  }
  return { states }
}

// ---- Numbers ----

const exponent = sequence([
  char(
    unite([
      [0x45, 0x45],
      [0x65, 0x65],
    ]),
  ),
  optional(
    char(
      unite([
        [0x2b, 0x2b],
        [0x2d, 0x2d],
      ]),
    ),
  ),
  repeat(digit, 1, 2),
])

/** Any number. */
export const numbers = sequence([
  optional(text('-')),
  choice([text('0'), sequence([nonZero, repeat(digit, 0, mostDigits - 1)])]),
  optional(sequence([text('.'), repeat(digit, 1, mostDigits)])),
  optional(exponent),
])

/** Numbers of a range, without exponents. Throws GrammarError on bounds of too many digits. */
export function numbersBetween(range: NumberRange): Expression {
  const { min, max, isMinExcluded, isMaxExcluded } = range
  const low = min === null ? null : decimalOf(min, isMinExcluded)
  const high = max === null ? null : decimalOf(max, isMaxExcluded)
  if (low !== null && high !== null) {
    if (min! > max! || (min === max && (isMinExcluded || isMaxExcluded))) return never
  }
  const options: Expression[] = []
  if (high === null || !high.isNegative) {
    options.push(sizes(low?.isNegative ? null : low, high))
  }
  if (low === null || low.isNegative) {
    const from = high !== null && (high.isNegative || high.isZero) ? high : null
    options.push(sequence([text('-'), sizes(from, low)]))
  }
  return choice(options)
}

interface Decimal {
  readonly isNegative: boolean
  readonly isZero: boolean
  readonly whole: bigint
  /** Without zeros at its end. */
  readonly fraction: string
  readonly isExcluded: boolean
}

function decimalOf(value: number, isExcluded: boolean): Decimal {
  const [mantissa, power = '0'] = Math.abs(value).toExponential().split('e')
  const significant = mantissa!.replace('.', '')
  const scale = Number(power)
  if ((isExcluded && significant.length > mostDigits) || Math.abs(scale) > 30) {
    throw new GrammarError(
      `${value} as a bound: at most ${mostDigits} digits and powers of ten up to 30 can be kept to`,
    )
  }
  const padded = scale < 0 ? '0'.repeat(-scale) + significant : significant.padEnd(scale + 1, '0')
  const numWhole = scale < 0 ? 1 : scale + 1
  return {
    isNegative: value < 0,
    isZero: value === 0,
    whole: BigInt(padded.slice(0, numWhole)),
    fraction: padded.slice(numWhole).replace(/0+$/, ''),
    isExcluded,
  }
}

/** Magnitudes; null: from 0, or without an end. */
function sizes(low: Decimal | null, high: Decimal | null): Expression {
  const largest =
    high?.whole ?? (low === null || low.whole < 99_999n ? 999_999n : low.whole * 10n + 9n)
  const longest = Math.max(low?.fraction.length ?? 0, high?.fraction.length ?? 0)
  const free = Math.max(0, mostDigits - String(largest).length - longest)
  const most = Math.min(9, free)
  const lower = low === null ? null : atLeast(low, largest, most)
  const upper = high === null ? null : atMost(high, most)
  if (lower !== null && upper !== null) {
    const automaton = intersect(toAutomaton(lower), toAutomaton(upper))
    return { kind: 'automaton', automaton, spelling: 'plain' }
  }
  return lower ?? upper ?? sequence([wholes(0n, largest), anyFraction(most)])
}

function anyFraction(most: number): Expression {
  return most === 0 ? empty : optional(sequence([text('.'), repeat(digit, 1, most)]))
}

function rest(most: number): Expression {
  return repeat(digit, 0, most)
}

/** Digits that are not all zero. */
function positive(most: number): Expression {
  if (most === 0) return never
  return choice(
    Array.from({ length: most }, (_, i) =>
      sequence([text('0'.repeat(i)), nonZero, rest(most - i - 1)]),
    ),
  )
}

function atLeast(
  { whole, fraction, isExcluded }: Decimal,
  largest: bigint,
  most: number,
): Expression {
  const options: Expression[] = []
  if (whole < largest) options.push(sequence([wholes(whole + 1n, largest), anyFraction(most)]))
  const fractions: Expression[] = []
  for (const [i, digitText] of [...fraction].entries()) {
    const value = Number(digitText)
    if (value === 9) continue
    const after = fraction.length - i - 1 + most
    const larger = char(digits(value + 1, 9))
    fractions.push(sequence([text(`.${fraction.slice(0, i)}`), larger, rest(after)]))
  }
  const point = text(`.${fraction}`)
  if (isExcluded) fractions.push(sequence([point, positive(most)]))
  else if (fraction !== '') fractions.push(sequence([point, rest(most)]))
  else fractions.push(anyFraction(most))
  options.push(sequence([text(String(whole)), choice(fractions)]))
  return choice(options)
}

function atMost({ whole, fraction, isExcluded }: Decimal, most: number): Expression {
  const options: Expression[] = []
  if (whole > 0n) {
    options.push(sequence([wholes(0n, whole - 1n), anyFraction(fraction.length + most)]))
  }
  const fractions: Expression[] = []
  if (fraction !== '' || !isExcluded) fractions.push(empty)
  for (const [i, digitText] of [...fraction].entries()) {
    const value = Number(digitText)
    if (i > 0) fractions.push(text(`.${fraction.slice(0, i)}`))
    if (value === 0) continue
    const smaller = char(digits(0, value - 1))
    const after = fraction.length - i - 1 + most
    fractions.push(sequence([text(`.${fraction.slice(0, i)}`), smaller, rest(after)]))
  }
  if (!isExcluded) {
    const zeros = repeat(text('0'), fraction === '' ? 1 : 0, Math.max(1, most))
    fractions.push(sequence([text(`.${fraction}`), zeros]))
  }
  options.push(sequence([text(String(whole)), choice(fractions)]))
  return choice(options)
}
