// Finds stop strings in a stream of text, and holds back what may yet become one. The first to be
// complete counts, of those complete together the longest: however the text is cut into pieces.
//
// A stop string may contain the text of a special token, which is not shown. Such a token stands in
// the stream as a sign of two lone surrogates and a number, which no decoded text contains; signs are
// taken out of what is released.

/** Length of the longest suffix of `text` that is a proper prefix of `pattern`. */
export function partialMatch(text: string, pattern: string): number {
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

export interface StopMatcherOptions {
  readonly stops: readonly string[]
  /** The stop string itself is part of the text. */
  readonly includeStop: boolean
  /** Texts of special tokens, which are not shown. */
  readonly hiddenTexts?: readonly string[]
}

const sign = /\uD800\uD800./gs

export function withoutSigns(text: string): string {
  return text.includes('\uD800\uD800') ? text.replace(sign, '') : text
}

export function createStopMatcher({ stops, includeStop, hiddenTexts = [] }: StopMatcherOptions) {
  const signs = new Map<string, string>()
  for (const text of hiddenTexts) {
    if (!stops.some((stop) => stop.includes(text))) continue
    signs.set(text, `\uD800\uD800${String.fromCharCode(0xe000 + signs.size)}`)
  }
  const patterns = stops.flatMap((stop) =>
    [...new Set([stop, withSigns(stop, signs)])].map((pattern) => ({ stop, pattern })),
  )
  let held = ''

  return {
    /** What stands in the stream for a special token; empty where no stop string contains it. */
    signOf: (hiddenText: string): string => signs.get(hiddenText) ?? '',

    /** `mayStop`: whether a stop string that becomes complete with this piece counts. */
    push(piece: string, mayStop = true): StopMatch {
      if (patterns.length === 0) return { text: piece, stop: null }
      const numOld = held.length
      held += piece
      const found = mayStop ? firstMatch(held, patterns, numOld) : undefined
      if (found !== undefined) {
        const before = withoutSigns(held.slice(0, found.at))
        held = ''
        return { text: includeStop ? before + found.stop : before, stop: found.stop }
      }
      let keep = 0
      for (const { pattern } of patterns) keep = Math.max(keep, partialMatch(held, pattern))
      const text = withoutSigns(held.slice(0, held.length - keep))
      held = held.slice(held.length - keep)
      return { text, stop: null }
    },

    flush(): string {
      const rest = withoutSigns(held)
      held = ''
      return rest
    },
  }
}

interface Pattern {
  readonly stop: string
  readonly pattern: string
}

/** Of the matches that end beyond `numOld`, the one that ends first, of those the longest. */
function firstMatch(text: string, patterns: readonly Pattern[], numOld: number) {
  let first: { at: number; stop: string } | undefined
  let firstEnd = Number.POSITIVE_INFINITY
  for (const { stop, pattern } of patterns) {
    const at = text.indexOf(pattern, Math.max(0, numOld - pattern.length + 1))
    const end = at + pattern.length
    if (at < 0 || end > firstEnd || (end === firstEnd && at >= first!.at)) continue
    first = { at, stop }
    firstEnd = end
  }
  return first
}

/** The longest hidden text first, where one is part of another. */
function withSigns(stop: string, signs: ReadonlyMap<string, string>): string {
  return [...signs]
    .sort(([one], [other]) => other.length - one.length)
    .reduce((text, [hidden, its]) => text.replaceAll(hidden, its), stop)
}
