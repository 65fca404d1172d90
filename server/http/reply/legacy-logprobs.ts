// The logprobs of a plain completion: four lists over its tokens, written from lists of JSON texts.

import {
  type PromptLogprobs,
  promptTokenAt,
  type RankedWord,
} from '../../contracts/prompt-logprobs.ts'
import { toRaw } from './raw-json.ts'

export interface ShownToken extends Pick<RankedWord, 'token'> {
  readonly logprob: number | null
  readonly top: ReadonlyArray<Pick<RankedWord, 'token' | 'logprob'>>
}

/** JSON texts of one token each. */
type TokenTexts = Readonly<Record<keyof ShownToken, string>>

export interface ShownList {
  /** Where each token begins in the text. */
  readonly starts: readonly number[]
  textAt(i: number, key: keyof ShownToken): string
}

/** Those of an answer, as they come. */
export class TokenList implements ShownList {
  readonly #texts: TokenTexts[] = []
  readonly starts: number[] = []

  add(tokens: readonly ShownToken[], starts: readonly number[]): void {
    for (const [i, one] of tokens.entries()) {
      this.#texts.push(textsOf(one))
      this.starts.push(starts[i]!)
    }
  }

  textAt(i: number, key: keyof ShownToken): string {
    return this.#texts[i]![key]
  }
}

export interface EchoedListOptions {
  readonly table: PromptLogprobs
  /** Alternatives shown for each token. */
  readonly numTop: number
  readonly starts: readonly number[]
  /** Several choices show it: what the first one wrote is kept. */
  readonly isShared: boolean
}

/** Those of a prompt, made when they are written. */
export function createEchoedList(options: EchoedListOptions): ShownList {
  const { table, numTop, starts, isShared } = options
  const kept: TokenTexts[] = []

  function textAt(i: number, key: keyof ShownToken): string {
    if (!isShared) return textOf(promptTokenAt(table, i, key === 'top' ? numTop : 0), key)
    kept[i] ??= textsOf(promptTokenAt(table, i, numTop))
    return kept[i][key]
  }

  return { starts, textAt }
}

/** The lists one after the other, as the field of a whole answer. */
export function wholeLogprobs(lists: readonly ShownList[]) {
  function* each(key: keyof ShownToken) {
    for (const list of lists) {
      for (const i of list.starts.keys()) yield toRaw(list.textAt(i, key))
    }
  }

  return {
    tokens: each('token'),
    token_logprobs: each('logprob'),
    top_logprobs: each('top'),
    text_offset: lists.flatMap(({ starts }) => starts),
  }
}

/** The field of a chunk. */
export function chunkLogprobs(tokens: readonly ShownToken[], starts: readonly number[]) {
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(topLogprobs),
    text_offset: starts,
  }
}

function textsOf(one: ShownToken): TokenTexts {
  return {
    token: textOf(one, 'token'),
    logprob: textOf(one, 'logprob'),
    top: textOf(one, 'top'),
  }
}

function textOf(one: ShownToken, key: keyof ShownToken): string {
  return JSON.stringify(key === 'top' ? topLogprobs(one) : one[key])
}

/** Of tokens that read alike (halves of a code point) the likeliest stands. */
function topLogprobs({ logprob, top }: ShownToken): Record<string, number> | null {
  if (logprob === null) return null
  const table = new Map<string, number>()
  for (const other of top) if (!table.has(other.token)) table.set(other.token, other.logprob)
  return Object.fromEntries(table)
}
