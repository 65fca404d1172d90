// Text to token ids and back for byte-level BPE checkpoints. Encoding is @huggingface/tokenizers;
// bytes of tokens are our own table, so that text can be cut between any two tokens.

import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { ServerError } from '../errors.ts'
import { createBytePairs, replaceMerging } from './byte-pairs.ts'
import {
  namedTokens,
  readPromptFrame,
  readTokenizerConfig,
  readTokenizerJson,
  type TokenizerJson,
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

export function loadTokenizer(dir: string): Tokenizer {
  const config = readTokenizerConfig(dir)
  const json = readTokenizerJson(dir, config)
  // Splitting is the package's, merging is ours: it gets no merges to index.
  const inner = new HuggingFaceTokenizer({ ...json, model: { ...json.model, merges: [] } }, config)
  replaceMerging(inner.model, createBytePairs(json.model.vocab, json.model.merges))
  const ids = new Map(json.added_tokens.map((token) => [token.content, token.id]))
  const special = new Set(json.added_tokens.filter((token) => token.special).map(({ id }) => id))
  const bytes = createByteTable(json)

  function requireId(text: string): number {
    const id = ids.get(text) ?? inner.token_to_id(text)
    if (id !== undefined) return id
    throw new ServerError('invalid_checkpoint', `tokenizer.json has no token ${text}.`)
  }

  const frame = readPromptFrame(json, config)
  const prefix = frame.prefix.map(requireId)
  const suffix = frame.suffix.map(requireId)

  function encode(text: string): number[] {
    return text === '' ? [] : inner.encode(text.toWellFormed(), { add_special_tokens: false }).ids
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
    idOf: (text) => ids.get(text) ?? inner.token_to_id(text),
    specialTexts: json.added_tokens.map((token) => token.content),
    namedTokens: namedTokens(config),
    vocabSize: bytes.size,
  }
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

function decodeUtf8(bytes: Uint8Array): string {
  return utf8.decode(bytes)
}

const nothing = new Uint8Array(0)

/** Bytes of every token, one after the other in one block of memory. */
function createByteTable(json: TokenizerJson) {
  const texts: (Uint8Array | undefined)[] = []
  for (const [token, id] of Object.entries(json.model.vocab)) {
    if (!Number.isSafeInteger(id) || id < 0 || id >= 1 << 24) {
      throw new ServerError('invalid_checkpoint', `tokenizer.json: model.vocab has the id ${id}.`)
    }
    texts[id] = toBytes(token)
  }
  for (const { id, content } of json.added_tokens) texts[id] = Buffer.from(content, 'utf8')

  const size = texts.length
  const starts = new Uint32Array(size + 1)
  for (let id = 0; id < size; id++) starts[id + 1] = starts[id]! + (texts[id]?.length ?? 0)
  const block = new Uint8Array(starts[size]!)
  for (let id = 0; id < size; id++) if (texts[id]) block.set(texts[id]!, starts[id]!)
  return {
    size,
    of: (id: number): Uint8Array =>
      id >= 0 && id < size ? block.subarray(starts[id]!, starts[id + 1]!) : nothing,
  }
}

// GPT-2's table: a byte that prints is its own character, the others are U+0100 and following.
const byteOfChar: ReadonlyMap<string, number> = (() => {
  const table = new Map<string, number>()
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const prints = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
    table.set(String.fromCharCode(prints ? byte : next++), byte)
  }
  return table
})()

/** A vocabulary entry as bytes; one that is not written in GPT-2's table stands for its UTF-8. */
function toBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length)
  for (let i = 0; i < token.length; i++) {
    const byte = byteOfChar.get(token[i]!)
    if (byte === undefined) return Buffer.from(token, 'utf8')
    bytes[i] = byte
  }
  return bytes
}
