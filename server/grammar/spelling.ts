// A character in bytes: UTF-8, or what JSON writes within a string. JSON's way is that of
// JSON.stringify; where every character may stand, its other escapes are let through, too.

import {
  anyPoint,
  type ByteRanges,
  type CodePoints,
  complement,
  intersect,
  isAnyPoint,
  pointsOf,
  type Range,
  unite,
  utf8Of,
} from './code-points.ts'
import type { Spelling } from './expression.ts'

const shortEscapes: ReadonlyArray<readonly [string, string]> = [
  ['"', '"'],
  ['\\', '\\'],
  ['\b', 'b'],
  ['\f', 'f'],
  ['\n', 'n'],
  ['\r', 'r'],
  ['\t', 't'],
]
const short = pointsOf(shortEscapes.map(([char]) => char).join(''))
const escaped = unite([[0, 0x1f], ...short])
const unescaped = complement(escaped)

const spelled = {
  plain: new WeakMap<CodePoints, ByteRanges[]>(),
  json: new WeakMap<CodePoints, ByteRanges[]>(),
}

/** The same set is asked for at many places. */
export function spell(points: CodePoints, spelling: Spelling): ByteRanges[] {
  const known = spelled[spelling].get(points)
  if (known !== undefined) return known
  const ranges = write(points, spelling)
  spelled[spelling].set(points, ranges)
  return ranges
}

function write(points: CodePoints, spelling: Spelling): ByteRanges[] {
  if (spelling === 'plain') return utf8Of(points)
  if (isAnyPoint(points)) return anyJson
  const all = utf8Of(intersect(points, unescaped))
  for (const [char, letter] of shortEscapes) {
    if (intersect(points, pointsOf(char)).length > 0) all.push(bytesOf(`\\${letter}`))
  }
  for (const [first, last] of intersect(intersect(points, [[0, 0x1f]]), complement(short))) {
    for (let point = first; point <= last; point++) {
      const digits = point.toString(16).padStart(2, '0')
      all.push([...bytesOf('\\u00'), ...[...digits].map(hex)])
    }
  }
  return all
}

function bytesOf(text: string): ByteRanges {
  return [...Buffer.from(text)].map((byte): Range[] => [[byte, byte]])
}

/** One of these hexadecimal digits, in either case. */
function hex(digits: string): Range[] {
  return [...new Set([...digits.toLowerCase(), ...digits.toUpperCase()])].map((digit): Range => {
    const byte = digit.charCodeAt(0)
    return [byte, byte]
  })
}

const digit: Range[] = [
  [0x30, 0x39],
  [0x41, 0x46],
  [0x61, 0x66],
]
const u = bytesOf('\\u')

/** Each code point once, in every way that JSON can write it; never half a surrogate pair. */
const anyJson: ByteRanges[] = [
  ...utf8Of(intersect(anyPoint, unescaped)),
  [...bytesOf('\\'), ['"', '\\', '/', 'b', 'f', 'n', 'r', 't'].flatMap((one) => bytesOf(one)[0]!)],
  [...u, hex('0123456789abcef'), digit, digit, digit],
  [...u, hex('d'), hex('01234567'), digit, digit],
  [...u, hex('d'), hex('89ab'), digit, digit, ...u, hex('d'), hex('cdef'), digit, digit],
]
