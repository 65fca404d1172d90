// Text streams that hold back what may yet turn into something else: a stop string, a closing
// </think>. Pure state machines over strings; whoever feeds them flushes them at the end.

/** Length of the longest suffix of `text` that is a proper prefix of `pattern`. */
function partialMatch(text: string, pattern: string): number {
  for (let length = Math.min(pattern.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(pattern.slice(0, length))) return length
  }
  return 0
}

export interface StopMatch {
  /** Text that can be released. */
  readonly text: string
  /** The stop string that was found; what follows it is dropped. */
  readonly stop: string | null
}

/**
 * Finds the first of several stop strings to be complete in a stream, the longest of those that are
 * complete together. However the stream is cut into pieces, the outcome is the same.
 */
export function createStopMatcher(stops: readonly string[], includeStop: boolean) {
  let held = ''
  return {
    push(piece: string): StopMatch {
      held += piece
      let first: { at: number; stop: string } | undefined
      let firstEnd = Number.POSITIVE_INFINITY
      for (const stop of stops) {
        const at = held.indexOf(stop)
        const end = at + stop.length
        if (at < 0 || end > firstEnd || (end === firstEnd && at >= first!.at)) continue
        first = { at, stop }
        firstEnd = end
      }
      if (first !== undefined) {
        const end = first.at + (includeStop ? first.stop.length : 0)
        return { text: held.slice(0, end), stop: first.stop }
      }
      const keep = Math.max(0, ...stops.map((stop) => partialMatch(held, stop)))
      const text = held.slice(0, held.length - keep)
      held = held.slice(held.length - keep)
      return { text, stop: null }
    },
    flush(): string {
      const rest = held
      held = ''
      return rest
    },
  }
}

export interface SplitText {
  readonly reasoning: string
  readonly content: string
}

const endOfThought = '</think>'

/**
 * Splits an R1-style reply at </think>. The reply begins inside the thought (the prompt opened it);
 * newlines around the mark belong to neither side. If it never comes, all is reasoning.
 */
export function createReasoningSplitter(startsInReasoning: boolean) {
  let inReasoning = startsInReasoning
  let isAtContentStart = startsInReasoning
  let held = ''

  function content(text: string): string {
    const trimmed = isAtContentStart ? text.replace(/^\n+/, '') : text
    if (trimmed !== '') isAtContentStart = false
    return trimmed
  }

  return {
    get inReasoning() {
      return inReasoning
    },
    push(piece: string): SplitText {
      if (!inReasoning) return { reasoning: '', content: content(piece) }
      held += piece
      const at = held.indexOf(endOfThought)
      if (at >= 0) {
        const reasoning = held.slice(0, at).replace(/\n+$/, '')
        const rest = held.slice(at + endOfThought.length)
        held = ''
        inReasoning = false
        return { reasoning, content: content(rest) }
      }
      // Newlines may belong to the mark that follows, so they wait with it.
      const mark = partialMatch(held, endOfThought)
      const body = held.slice(0, held.length - mark)
      const keep = mark + (body.length - body.replace(/\n+$/, '').length)
      const reasoning = held.slice(0, held.length - keep)
      held = held.slice(held.length - keep)
      return { reasoning, content: '' }
    },
    flush(): SplitText {
      const rest = held
      held = ''
      return inReasoning ? { reasoning: rest, content: '' } : { reasoning: '', content: rest }
    },
  }
}
