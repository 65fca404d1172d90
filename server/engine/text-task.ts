// The task of a text thread: the chat template and the tokenizer, which may take seconds on texts that
// were made for it. It has a tokenizer of its own.

import type { TokenizeInput, TokenizeResult } from '../contracts/engine.ts'
import type { Prompt } from '../contracts/generation.ts'
import type { ReplyPhase } from '../contracts/thought.ts'
import { ServerError } from '../errors.ts'
import { defineTask } from '../threads/task.ts'
import { type ChatTemplate, loadChatTemplate } from '../tokenizer/chat-template.ts'
import { createFewestTokens, type FewestTokens } from '../tokenizer/fewest-tokens.ts'
import type { TokenTable } from '../tokenizer/token-texts.ts'
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts'

export type TextWork =
  /** Loads what the others need; answers with the tokens' texts. */
  | { readonly kind: 'open' }
  | {
      readonly kind: 'encode'
      readonly prompt: Exclude<Prompt, { kind: 'tokens' }>
      readonly maxContext: number
    }
  | { readonly kind: 'tokenize'; readonly input: TokenizeInput }
  | { readonly kind: 'detokenize'; readonly tokens: readonly number[] }

export interface TextOrder {
  /** The checkpoint's folder. */
  readonly dir: string
  readonly work: TextWork
}

export interface TextResult {
  readonly tokens: Int32Array
  /** Where an encoded prompt leaves the reply. */
  readonly phase: ReplyPhase
  /** A detokenized text. */
  readonly text: string
  readonly tokenized: TokenizeResult
  /** Of an opened tokenizer. */
  readonly table: TokenTable | null
}

interface Opened {
  readonly dir: string
  readonly tokenizer: Tokenizer
  readonly chatTemplate: ChatTemplate
  readonly fewestTokens: FewestTokens
}

let opened: Opened | undefined

function open(dir: string): Opened {
  if (opened?.dir === dir) return opened
  const tokenizer = loadTokenizer(dir)
  const chatTemplate = loadChatTemplate(dir, tokenizer)
  opened = { dir, tokenizer, chatTemplate, fewestTokens: createFewestTokens(tokenizer) }
  return opened
}

const nothing: TextResult = {
  tokens: new Int32Array(),
  phase: 'answering',
  text: '',
  tokenized: { count: 0, tokens: '[]', tokenStrings: '[]' },
  table: null,
}

function encode(
  { tokenizer, chatTemplate, fewestTokens }: Opened,
  { prompt, maxContext }: Extract<TextWork, { kind: 'encode' }>,
): TextResult {
  function requireRoom(text: string): void {
    // A token has a byte at least.
    if (text.length <= maxContext / 4) return
    const fewest = fewestTokens(text)
    if (fewest <= maxContext) return
    throw new ServerError(
      'context_length_exceeded',
      `This model's maximum context length is ${maxContext} tokens; the prompt has at least ` +
        `${fewest}. Shorten the prompt, or raise --max-context if the model allows it.`,
      { param: prompt.kind === 'text' ? 'prompt' : 'messages' },
    )
  }

  if (prompt.kind === 'text') {
    requireRoom(prompt.text)
    const { addSpecialTokens = true } = prompt
    const tokens = tokenizer.encodePrompt(prompt.text, { addSpecialTokens })
    return { ...nothing, tokens: Int32Array.from(tokens) }
  }
  const options = { ...prompt, addGenerationPrompt: true, onRendered: requireRoom }
  const { tokens, phase } = chatTemplate.encode(prompt.messages, options)
  return { ...nothing, tokens: Int32Array.from(tokens), phase }
}

function tokenize({ tokenizer, chatTemplate }: Opened, input: TokenizeInput): TextResult {
  const tokens =
    input.kind === 'text'
      ? tokenizer.encodePrompt(input.text, { addSpecialTokens: input.addSpecialTokens })
      : chatTemplate.encode(input.messages, input).tokens
  const strings = input.withTokenStrings ? tokens.map((id) => tokenizer.tokenText(id)) : []
  const tokenized = {
    count: tokens.length,
    tokens: JSON.stringify(tokens),
    tokenStrings: JSON.stringify(strings),
  }
  return { ...nothing, tokenized }
}

export const textTask = defineTask({
  url: import.meta.url,
  run({ dir, work }: TextOrder): TextResult {
    const files = open(dir)
    switch (work.kind) {
      case 'open':
        return { ...nothing, table: files.tokenizer.table }
      case 'encode':
        return encode(files, work)
      case 'tokenize':
        return tokenize(files, work.input)
      case 'detokenize':
        return { ...nothing, text: files.tokenizer.decode(work.tokens) }
    }
  },
  transfers: ({ tokens }) => (tokens.length > 0 ? [tokens.buffer as ArrayBuffer] : []),
})
