// Finds the first of some marks in text that comes in pieces, and holds back what may become one.

export interface Found<Mark extends string> {
  /** Text before the mark, or as much as no mark can begin in. */
  readonly text: string
  readonly mark: Mark | null
  readonly rest: string
}

export function findMark<Mark extends string>(held: string, marks: readonly Mark[]): Found<Mark> {
  let at = held.length
  let mark: Mark | null = null
  for (const candidate of marks) {
    const place = held.indexOf(candidate)
    if (place < 0 || place >= at) continue
    at = place
    mark = candidate
  }
  if (mark !== null) return { text: held.slice(0, at), mark, rest: held.slice(at + mark.length) }
  const keep = Math.max(0, ...marks.map((candidate) => partialLength(held, candidate)))
  const end = held.length - keep
  return { text: held.slice(0, end), mark: null, rest: held.slice(end) }
}

/** Of the longest end of the text that a mark may begin with. */
function partialLength(text: string, mark: string): number {
  for (let length = Math.min(mark.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(mark.slice(0, length))) return length
  }
  return 0
}
