// Sets of Unicode code points as sorted ranges, and as a class of a regular expression.

/** Sorted, apart from one another; both ends belong to the range. */
export type CodePointSet = readonly (readonly [number, number])[]

const last = 0x10ffff

export function union(...sets: readonly CodePointSet[]): CodePointSet {
  const sorted = sets.flat().sort((a, b) => a[0] - b[0])
  const merged: [number, number][] = []
  for (const [first, end] of sorted) {
    const previous = merged.at(-1)
    if (previous && first <= previous[1] + 1) previous[1] = Math.max(previous[1], end)
    else merged.push([first, end])
  }
  return merged
}

export function complement(set: CodePointSet): CodePointSet {
  const rest: [number, number][] = []
  let next = 0
  for (const [first, end] of set) {
    if (next < first) rest.push([next, first - 1])
    next = end + 1
  }
  if (next <= last) rest.push([next, last])
  return rest
}

export function setOf(text: string): CodePointSet {
  return union(
    ...[...text].map((char): CodePointSet => [[char.codePointAt(0)!, char.codePointAt(0)!]]),
  )
}

/** "[…]" for a regular expression with the flag u; independent of the Unicode that Node knows. */
export function toClass(set: CodePointSet): string {
  const toEscape = (codePoint: number) => `\\u{${codePoint.toString(16)}}`
  const ranges = set.map(([first, end]) =>
    first === end ? toEscape(first) : `${toEscape(first)}-${toEscape(end)}`,
  )
  return `[${ranges.join('')}]`
}
