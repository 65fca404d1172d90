// The task of a text thread: the chat template and the tokenizer, which may take seconds on texts that
// were made for it. It has a tokenizer of its own.

import { grammarOf } from '../constraints/grammar-of.ts'
import type { OutputConstraint } from '../contracts/constraint.ts'
import type { TokenizeInput, TokenizeResult, ToolFormat } from '../contracts/engine.ts'
import type { Prompt } from '../contracts/generation.ts'
import type { ReplyPhase } from '../contracts/thought.ts'
import { ServerError } from '../errors.ts'
import { GrammarError } from '../grammar/expression.ts'
import { buildMachine } from '../grammar/machine.ts'
import { createMatcher } from '../grammar/matcher.ts'
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
  /** Texts with a space before them and without. */
  | { readonly kind: 'words'; readonly words: readonly string[] }
  /** Looks whether a grammar can be made of it. `field`: the client's. */
  | {
      readonly kind: 'constraint'
      readonly constraint: OutputConstraint
      readonly field: string | null
    }

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
  /** The spellings of words, each as tokens. */
  readonly words: readonly (readonly number[])[]
  /** Of an opened tokenizer. */
  readonly table: TokenTable | null
  /** Of an opened template. */
  readonly toolFormat: ToolFormat | null
  readonly chatTemplate: string | null
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
  words: [],
  table: null,
  toolFormat: null,
  chatTemplate: null,
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

function spellings({ tokenizer }: Opened, words: readonly string[]): TextResult {
  const texts = words.flatMap((word) => [word.trimStart(), ` ${word.trimStart()}`])
  const all = texts.map((text) => tokenizer.encodePrompt(text, { addSpecialTokens: false }))
  return { ...nothing, words: all.filter(({ length }) => length > 0) }
}

/** Throws ServerError where answers cannot be decoded by it. */
function requireGrammar(
  { tokenizer }: Opened,
  { constraint, field }: Extract<TextWork, { kind: 'constraint' }>,
): void {
  const { block, starts } = tokenizer.table.bytes
  const singles = new Set<number>()
  for (let id = 0; id + 1 < starts.length; id++) {
    if (starts[id + 1]! - starts[id]! === 1) singles.add(block[starts[id]!]!)
  }
  try {
    const isWritable = (byte: number) => singles.has(byte)
    createMatcher(buildMachine(grammarOf(constraint), { isWritable })).start()
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error
    const what = nouns[constraint.kind]
    const param = field === null ? {} : { param: field }
    throw new ServerError('invalid_value', `The ${what}: ${error.message}.`, param)
  }
}

const nouns: Readonly<Record<OutputConstraint['kind'], string>> = {
  json_object: 'JSON object',
  json_schema: 'JSON Schema',
  regex: 'regular expression',
  choice: 'list of choices',
  grammar: 'grammar',
  tool_calls: 'list of tools',
}

export const textTask = defineTask({
  url: import.meta.url,
  run({ dir, work }: TextOrder): TextResult {
    const files = open(dir)
    switch (work.kind) {
      case 'open':
        return {
          ...nothing,
          table: files.tokenizer.table,
          toolFormat: files.chatTemplate.toolFormat,
          chatTemplate: files.chatTemplate.source,
        }
      case 'encode':
        return encode(files, work)
      case 'tokenize':
        return tokenize(files, work.input)
      case 'detokenize':
        return { ...nothing, text: files.tokenizer.decode(work.tokens) }
      case 'words':
        return spellings(files, work.words)
      case 'constraint':
        requireGrammar(files, work)
        return nothing
    }
  },
  transfers: ({ tokens }) => (tokens.length > 0 ? [tokens.buffer as ArrayBuffer] : []),
})
