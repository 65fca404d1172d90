// Finds the texts of added tokens: leftmost first, the longest there. Tokens that are not
// normalised are found in the text as it came, the others in what normalising makes of the rest.

import { toClass } from './code-point-set.ts'
import { whiteSpace } from './unicode-categories.ts'

export interface AddedToken {
  readonly id: number
  readonly content: string
  readonly special: boolean
  readonly normalized?: boolean | undefined
  /** White space on that side belongs to the token. */
  readonly lstrip?: boolean | undefined
  readonly rstrip?: boolean | undefined
}

/** Text between added tokens, or the id of one. */
export type Part = string | number

const space = toClass(whiteSpace)
const spaceAtStart = new RegExp(`^${space}*`, 'u')
const isSpace = new RegExp(`^${space}$`, 'u')

export function createAddedTokenSplitter(
  tokens: readonly AddedToken[],
  normalize: (text: string) => string,
): (text: string) => Part[] {
  const isNormalized = ({ normalized, special }: AddedToken) => normalized ?? !special
  const asWritten = createMatcher(tokens.filter((token) => !isNormalized(token)))
  const normalized = createMatcher(
    tokens
      .filter(isNormalized)
      .map((token) => ({ ...token, content: normalize(token.content) }))
      .filter(({ content }) => content !== ''),
  )
  return (text) =>
    asWritten(text).flatMap((part) =>
      typeof part === 'number' ? [part] : normalized(normalize(part)),
    )
}

interface Node {
  readonly next: Map<string, Node>
  token?: AddedToken
}

function createMatcher(tokens: readonly AddedToken[]): (text: string) => Part[] {
  if (tokens.length === 0) return (text) => (text === '' ? [] : [text])
  const top: Node = { next: new Map() }
  for (const token of tokens) {
    let node = top
    for (const unit of token.content.split('')) {
      const next: Node = node.next.get(unit) ?? { next: new Map() }
      node.next.set(unit, next)
      node = next
    }
    // The last of the same text counts.
    node.token = token
  }

  function longestAt(text: string, start: number): AddedToken | undefined {
    let found: AddedToken | undefined
    let node = top.next.get(text[start]!)
    for (let i = start + 1; node; i++) {
      found = node.token ?? found
      node = i < text.length ? node.next.get(text[i]!) : undefined
    }
    return found
  }

  return (text) => {
    const parts: Part[] = []
    // `start` is where the text not yet given out begins; white space of a token moves it on.
    let start = 0
    for (let at = 0; at < text.length; ) {
      const token = longestAt(text, at)
      if (!token) {
        at++
        continue
      }
      let first = at
      let end = at + token.content.length
      at = end
      if (token.lstrip) while (first > start && isSpace.test(text[first - 1]!)) first--
      if (token.rstrip) end += spaceAtStart.exec(text.slice(end))![0].length
      if (start < first) parts.push(text.slice(start, first))
      parts.push(token.id)
      start = end
    }
    if (start < text.length) parts.push(text.slice(start))
    return parts
  }
}
