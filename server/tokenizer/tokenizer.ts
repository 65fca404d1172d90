// Text to token ids and back for byte-level BPE checkpoints, as the reference library does it:
// added tokens, NFC, words, byte pairs. The way back is token-texts.ts.

import { ServerError } from '../errors.ts'
import { createAddedTokenSplitter } from './added-tokens.ts'
import { createBytePairs } from './byte-pairs.ts'
import { createByteTable, toByteCharacters } from './byte-table.ts'
import { normalizeNfc } from './normalizer.ts'
import { createPreTokenizer } from './pre-tokenizer.ts'
import { createTokenTexts, type TokenTable, type TokenTexts } from './token-texts.ts'
import {
  namedTokens,
  readPromptFrame,
  readSplitSteps,
  readTokenizerFiles,
  usesNfc,
} from './tokenizer-file.ts'

export interface Tokenizer extends TokenTexts {
  /** Tokens of the text; added tokens' texts in it become those tokens. Adds nothing around it. */
  encode(text: string): number[]
  /** Each segment by itself: no token, and no added token, spans two of them. */
  encodeSegments(segments: readonly string[]): number[]
  /** A plain prompt: with the special tokens that the checkpoint puts around one (often BOS). */
  encodePrompt(text: string, options: { readonly addSpecialTokens: boolean }): number[]
  /** For who only decodes. */
  readonly table: TokenTable
}

/** Of a checkpoint's folder or GGUF file. */
export function loadTokenizer(path: string): Tokenizer {
  const { config, json } = readTokenizerFiles(path)
  const vocab = new Map(Object.entries(json.model.vocab))
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

  function requireId(text: string): number {
    const id = ids.get(text) ?? vocab.get(text)
    if (id !== undefined) return id
    throw new ServerError('invalid_checkpoint', `tokenizer.json has no token ${text}.`)
  }

  const frame = readPromptFrame(json, config)
  const prefix = frame.prefix.map(requireId)
  const suffix = frame.suffix.map(requireId)

  const named = namedTokens(config)
  const table: TokenTable = {
    bytes: createByteTable(vocab, json.added_tokens),
    added: json.added_tokens.map(({ id, content, special }) => ({ id, content, special })),
    named,
    // A name whose token is an ordinary one, or none at all.
    ordinary: Object.values(named).flatMap((text) => {
      const id = vocab.get(text)
      return ids.has(text) || id === undefined ? [] : [{ id, content: text }]
    }),
    frame: [...prefix, ...suffix],
  }

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
    ...createTokenTexts(table),
    table,
    encode,
    encodeSegments: (segments) => segments.flatMap(encode),
    encodePrompt: (text, { addSpecialTokens }) =>
      addSpecialTokens ? prefix.concat(encode(text), suffix) : encode(text),
  }
}
