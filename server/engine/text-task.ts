// The task of a text thread: the chat template and the tokenizer, which may take seconds on texts that
// were made for it. It has a tokenizer of its own.

import type { TokenizeInput } from '../contracts/engine.ts'
import type { Prompt } from '../contracts/generation.ts'
import { ServerError } from '../errors.ts'
import { defineTask } from '../threads/task.ts'
import { type ChatTemplate, loadChatTemplate } from '../tokenizer/chat-template.ts'
import { createFewestTokens, type FewestTokens } from '../tokenizer/fewest-tokens.ts'
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts'

export type TextWork =
  /** Loads what the others need. */
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
  readonly startsInReasoning: boolean
  /** A detokenized text, or the texts of a tokenized one's tokens joined, where they are wanted. */
  readonly text: string
  /** Of each token's text. */
  readonly textLengths: Int32Array
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

const none = new Int32Array()
const nothing: TextResult = { tokens: none, startsInReasoning: false, text: '', textLengths: none }

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
        `${fewest}. Shorten the prompt.`,
      { param: prompt.kind === 'text' ? 'prompt' : 'messages' },
    )
  }

  if (prompt.kind === 'text') {
    requireRoom(prompt.text)
    const tokens = tokenizer.encodePrompt(prompt.text, { addSpecialTokens: true })
    return { ...nothing, tokens: Int32Array.from(tokens) }
  }
  const options = { addGenerationPrompt: true, onRendered: requireRoom }
  const { tokens, startsInReasoning } = chatTemplate.encode(prompt.messages, options)
  return { ...nothing, tokens: Int32Array.from(tokens), startsInReasoning }
}

function tokenize({ tokenizer, chatTemplate }: Opened, input: TokenizeInput): TextResult {
  const tokens =
    input.kind === 'text'
      ? tokenizer.encodePrompt(input.text, { addSpecialTokens: input.addSpecialTokens })
      : chatTemplate.encode(input.messages, input).tokens
  const texts = input.withTokenStrings ? tokens.map((id) => tokenizer.tokenText(id)) : []
  return {
    ...nothing,
    tokens: Int32Array.from(tokens),
    text: texts.join(''),
    textLengths: Int32Array.from(texts, ({ length }) => length),
  }
}

export const textTask = defineTask({
  url: import.meta.url,
  run({ dir, work }: TextOrder): TextResult {
    const files = open(dir)
    switch (work.kind) {
      case 'open':
        return nothing
      case 'encode':
        return encode(files, work)
      case 'tokenize':
        return tokenize(files, work.input)
      case 'detokenize':
        return { ...nothing, text: files.tokenizer.decode(work.tokens) }
    }
  },
  transfers: ({ tokens, textLengths }) =>
    [tokens, textLengths].filter((one) => one !== none).map(({ buffer }) => buffer as ArrayBuffer),
})
