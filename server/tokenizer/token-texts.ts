// The texts of tokens: all that is needed to decode, without what encodes, which is many times larger.
// Tokens have bytes, so that text can be cut between any two.

import { type ByteTable, bytesOf } from './byte-table.ts'

/** What the texts are made of: plain values, to be copied between threads. */
export interface TokenTable {
  readonly bytes: ByteTable
  readonly added: readonly {
    readonly id: number
    readonly content: string
    readonly special: boolean
  }[]
  readonly named: Readonly<Record<string, string>>
  /** Named tokens that are not added ones. */
  readonly ordinary: readonly { readonly id: number; readonly content: string }[]
  /** Ids of the tokens around a plain prompt. */
  readonly frame: readonly number[]
}

export interface TokenTexts {
  /** Exact bytes of a token; empty for ids that have none. Do not write to it. */
  tokenBytes(id: number): Uint8Array
  /** The token's text; bytes that are no whole code point show as U+FFFD. */
  tokenText(id: number): string
  decode(ids: readonly number[]): string
  /** An added token that is marked special (markers such as BOS; in R1, not <think>). */
  isSpecial(id: number): boolean
  /** Of an added token or one of `namedTokens`. */
  idOf(text: string): number | undefined
  /** Text of every added token. */
  readonly specialTexts: readonly string[]
  /** bos_token, eos_token, … as templates know them. */
  readonly namedTokens: Readonly<Record<string, string>>
  /** Ids of the special tokens that the checkpoint puts around a plain prompt. */
  readonly promptFrame: readonly number[]
  /** Largest id + 1; the model's own vocabulary may be padded beyond it. */
  readonly vocabSize: number
}

export function createTokenTexts({ bytes, added, named, ordinary, frame }: TokenTable): TokenTexts {
  const ids = new Map([...ordinary, ...added].map(({ id, content }) => [content, id]))
  const special = new Set(added.filter((token) => token.special).map(({ id }) => id))
  const tokenBytes = (id: number) => bytesOf(bytes, id)
  return {
    tokenBytes,
    tokenText: (id) => decodeUtf8(tokenBytes(id)),
    decode: (tokens) => decodeUtf8(Buffer.concat(tokens.map(tokenBytes))),
    isSpecial: (id) => special.has(id),
    idOf: (text) => ids.get(text),
    specialTexts: added.map((token) => token.content),
    namedTokens: named,
    promptFrame: frame,
    vocabSize: bytes.starts.length - 1,
  }
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

function decodeUtf8(bytes: Uint8Array): string {
  return utf8.decode(bytes)
}
