// Sets of code points, as sorted ranges that neither overlap nor touch. Surrogates are in none: they
// are no text.

export type Range = readonly [first: number, last: number]
export type CodePoints = readonly Range[]

export const anyPoint: CodePoints = [
  [0, 0xd7ff],
  [0xe000, 0x10ffff],
]

export function pointsOf(text: string): CodePoints {
  return unite([...text].map((char): Range => [char.codePointAt(0)!, char.codePointAt(0)!]))
}

/** Of ranges in any order. */
export function unite(ranges: readonly Range[]): CodePoints {
  const sorted = [...ranges].sort(([a], [b]) => a - b)
  const united: Array<[number, number]> = []
  for (const [first, last] of sorted) {
    const before = united.at(-1)
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last)
    else united.push([first, last])
  }
  return intersect(united, anyPoint)
}

export function intersect(a: CodePoints, b: CodePoints): CodePoints {
  const both: Range[] = []
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const first = Math.max(a[i]![0], b[j]![0])
    const last = Math.min(a[i]![1], b[j]![1])
    if (first <= last) both.push([first, last])
    if (a[i]![1] < b[j]![1]) i++
    else j++
  }
  return both
}

export function complement(points: CodePoints): CodePoints {
  const others: Range[] = []
  let next = 0
  for (const [first, last] of points) {
    if (first > next) others.push([next, first - 1])
    next = last + 1
  }
  if (next <= 0x10ffff) others.push([next, 0x10ffff])
  return intersect(others, anyPoint)
}

export function isAnyPoint(points: CodePoints): boolean {
  return points.length === 2 && points[0]![1] === 0xd7ff && points[1]![1] === 0x10ffff
}

export function hasPoint(points: CodePoints, point: number): boolean {
  return points.some(([first, last]) => first <= point && point <= last)
}

/** One way of writing a set in bytes: ranges of values for each byte. */
export type ByteRanges = ReadonlyArray<readonly Range[]>

const lengthEnds = [0x7f, 0x7ff, 0xffff, 0x10ffff]

/** UTF-8 of a set of code points. */
export function utf8Of(points: CodePoints): ByteRanges[] {
  const all: ByteRanges[] = []
  for (const [first, last] of points) {
    let from = first
    for (const end of lengthEnds) {
      if (from > last) break
      if (from > end) continue
      all.push(...sameLength(encode(from), encode(Math.min(end, last))))
      from = end + 1
    }
  }
  return all
}

function encode(point: number): number[] {
  if (point < 0x80) return [point]
  if (point < 0x800) return [0xc0 | (point >> 6), 0x80 | (point & 0x3f)]
  const tail = [0x80 | ((point >> 6) & 0x3f), 0x80 | (point & 0x3f)]
  if (point < 0x10000) return [0xe0 | (point >> 12), ...tail]
  return [0xf0 | (point >> 18), 0x80 | ((point >> 12) & 0x3f), ...tail]
}

/** All texts between two of the same number of bytes. */
function sameLength(first: readonly number[], last: readonly number[]): ByteRanges[] {
  const [a, ...restA] = first
  const [b, ...restB] = last
  if (restA.length === 0) return [[[[a!, b!]]]]
  if (a === b) return sameLength(restA, restB).map((rest): ByteRanges => [[[a!, b!]], ...rest])
  const low = restA.map(() => 0x80)
  const high = restA.map(() => 0xbf)
  const all: ByteRanges[] = []
  let from = a!
  let to = b!
  if (restA.some((byte) => byte !== 0x80)) {
    all.push(...sameLength(restA, high).map((rest): ByteRanges => [[[from, from]], ...rest]))
    from++
  }
  const hasTail = restB.some((byte) => byte !== 0xbf)
  if (hasTail) to--
  if (from <= to) all.push([[[from, to]], ...restA.map((): Range[] => [[0x80, 0xbf]])])
  if (hasTail) all.push(...sameLength(low, restB).map((rest): ByteRanges => [[[b!, b!]], ...rest]))
  return all
}
