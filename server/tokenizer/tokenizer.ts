// Text to token ids and back for byte-level BPE checkpoints, as the reference library does it:
// added tokens, NFC, words, byte pairs. Tokens have bytes, so that text can be cut between any two.

import { ServerError } from '../errors.ts'
import { createAddedTokenSplitter } from './added-tokens.ts'
import { createBytePairs } from './byte-pairs.ts'
import { createByteTable, toByteCharacters } from './byte-table.ts'
import { normalizeNfc } from './normalizer.ts'
import { createPreTokenizer } from './pre-tokenizer.ts'
import {
  namedTokens,
  readPromptFrame,
  readSplitSteps,
  readTokenizerFiles,
  usesNfc,
} from './tokenizer-file.ts'

export interface Tokenizer {
  /** Tokens of the text; added tokens' texts in it become those tokens. Adds nothing around it. */
  encode(text: string): number[]
  /** Each segment by itself: no token, and no added token, spans two of them. */
  encodeSegments(segments: readonly string[]): number[]
  /** A plain prompt: with the special tokens that the checkpoint puts around one (often BOS). */
  encodePrompt(text: string, options: { readonly addSpecialTokens: boolean }): number[]
  /** Exact bytes of a token; empty for ids that have none. Do not write to it. */
  tokenBytes(id: number): Uint8Array
  /** The token's text; bytes that are no whole code point show as U+FFFD. */
  tokenText(id: number): string
  decode(ids: readonly number[]): string
  /** An added token that is marked special (markers such as BOS; in R1, not <think>). */
  isSpecial(id: number): boolean
  idOf(text: string): number | undefined
  /** Text of every added token. */
  readonly specialTexts: readonly string[]
  /** bos_token, eos_token, … as templates know them. */
  readonly namedTokens: Readonly<Record<string, string>>
  /** Largest id + 1; the model's own vocabulary may be padded beyond it. */
  readonly vocabSize: number
}

/** Of a checkpoint's folder or GGUF file. */
export function loadTokenizer(path: string): Tokenizer {
  const { config, json } = readTokenizerFiles(path)
  const vocab = new Map(Object.entries(json.model.vocab))
  const bytes = createByteTable(vocab, json.added_tokens)
  const splitAdded = createAddedTokenSplitter(
    json.added_tokens,
    usesNfc(json) ? normalizeNfc : (text) => text,
  )
  const splitWords = createPreTokenizer(readSplitSteps(json))
  const merge = createBytePairs({
    vocab,
    merges: json.model.merges,
    ignoresMerges: json.model.ignore_merges === true,
  })
  const ids = new Map(json.added_tokens.map((token) => [token.content, token.id]))
  const special = new Set(json.added_tokens.filter((token) => token.special).map(({ id }) => id))

  function requireId(text: string): number {
    const id = ids.get(text) ?? vocab.get(text)
    if (id !== undefined) return id
    throw new ServerError('invalid_checkpoint', `tokenizer.json has no token ${text}.`)
  }

  const frame = readPromptFrame(json, config)
  const prefix = frame.prefix.map(requireId)
  const suffix = frame.suffix.map(requireId)

  function encode(text: string): number[] {
    const out: number[] = []
    for (const part of splitAdded(text.toWellFormed())) {
      if (typeof part === 'number') out.push(part)
      else
        for (const word of splitWords(part))
          for (const id of merge(toByteCharacters(word))) out.push(id)
    }
    return out
  }

  return {
    encode,
    encodeSegments: (segments) => segments.flatMap(encode),
    encodePrompt: (text, { addSpecialTokens }) =>
      addSpecialTokens ? prefix.concat(encode(text), suffix) : encode(text),
    tokenBytes: bytes.of,
    tokenText: (id) => decodeUtf8(bytes.of(id)),
    decode: (tokens) => decodeUtf8(Buffer.concat(tokens.map(bytes.of))),
    isSpecial: (id) => special.has(id),
    idOf: (text) => ids.get(text) ?? vocab.get(text),
    specialTexts: json.added_tokens.map((token) => token.content),
    namedTokens: namedTokens(config),
    vocabSize: bytes.size,
  }
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

function decodeUtf8(bytes: Uint8Array): string {
  return utf8.decode(bytes)
}
