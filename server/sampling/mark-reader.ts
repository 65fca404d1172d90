// Finds marks that are text in a stream of text. However it is cut into pieces, it reads the same.

import { partialMatch } from './stop-matcher.ts'

export interface MarkReaderOptions<Mark extends string> {
  /** Marks that would mean something now; each text and mark may change them. */
  readonly expected: () => readonly Mark[]
  readonly takeText: (text: string) => void
  readonly takeMark: (mark: Mark) => void
}

export function createMarkReader<Mark extends string>({
  expected,
  takeText,
  takeMark,
}: MarkReaderOptions<Mark>) {
  /** May be the beginning of a mark. */
  let unread = ''

  function flush(): void {
    const text = unread
    unread = ''
    if (text !== '') takeText(text)
  }

  return {
    flush,
    /** What may be the beginning of a mark. */
    get unread() {
      return unread
    },
    push(text: string): void {
      unread += text
      while (unread !== '') {
        const marks = expected()
        const found = firstOf(marks, unread)
        if (found?.at === 0) {
          unread = unread.slice(found.mark.length)
          takeMark(found.mark)
          continue
        }
        let keep = 0
        for (const mark of marks) keep = Math.max(keep, partialMatch(unread, mark))
        const length = found?.at ?? unread.length - keep
        if (length === 0) return
        const next = unread.slice(0, length)
        unread = unread.slice(length)
        takeText(next)
      }
    },
  }
}

function firstOf<Mark extends string>(marks: readonly Mark[], text: string) {
  let first: { mark: Mark; at: number } | undefined
  for (const mark of marks) {
    const at = text.indexOf(mark)
    if (at >= 0 && (first === undefined || at < first.at)) first = { mark, at }
  }
  return first
}
