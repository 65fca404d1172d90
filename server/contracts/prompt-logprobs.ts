// How likely each token of a prompt was, and what else could have stood there: flat lists. A prompt
// may have a hundred thousand alternatives, and as many objects would take long to copy.

export interface PromptLogprobs {
  /** Alternatives of each token. */
  readonly numTop: number
  /** [tokens × (1 + numTop)] The token, then the likeliest in its place: where in `ids` and `texts`. */
  readonly words: Int32Array
  /** The log-probability of each of `words`. */
  readonly logprobs: Float64Array
  /** [tokens] 1 is the most likely token. */
  readonly ranks: Int32Array
  /** Each token id that occurs, once. */
  readonly ids: Int32Array
  /** Their texts; bytes that are no whole code point show as U+FFFD. */
  readonly texts: readonly string[]
  /** Of the prompt's own tokens, one after the other. */
  readonly bytes: Uint8Array
  /** [tokens] Where each token's bytes end. */
  readonly ends: Int32Array
}

export interface RankedWord {
  readonly id: number
  readonly token: string
  readonly logprob: number
}

/** One token of a prompt. Nothing foretells the first: it has no log-probability. */
export interface PromptToken extends Omit<RankedWord, 'logprob'> {
  readonly logprob: number | null
  readonly rank: number | null
  /** Most likely first. */
  readonly top: readonly RankedWord[]
}

/** The token at `position`, with at most so many alternatives. */
export function promptTokenAt(
  table: PromptLogprobs,
  position: number,
  numTop = table.numTop,
): PromptToken {
  const begin = position * (1 + table.numTop)

  function wordAt(place: number): RankedWord {
    const word = table.words[place]!
    return { id: table.ids[word]!, token: table.texts[word]!, logprob: table.logprobs[place]! }
  }

  if (position === 0) return { ...wordAt(begin), logprob: null, rank: null, top: [] }
  const top = Array.from({ length: Math.min(numTop, table.numTop) }, (_, i) =>
    wordAt(begin + 1 + i),
  )
  return { ...wordAt(begin), rank: table.ranks[position]!, top }
}

/** Of each token of the prompt. */
export function promptBytes({ bytes, ends }: PromptLogprobs): { readonly bytes: Uint8Array }[] {
  return Array.from(ends, (end, i) => ({ bytes: bytes.subarray(i === 0 ? 0 : ends[i - 1], end) }))
}
