// tokenizer.json and tokenizer_config.json of a folder, or what a GGUF file has instead, checked for what we can run: byte-level BPE as the
// Qwen2, Llama 3, DeepSeek and GPT-2 families use it. Anything that would encode differently from the reference
// is refused by name.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { parseJson, readJson } from '../checkpoint/json.ts'
import { isGgufPath } from '../contracts/model-path.ts'
import { quoteName } from '../contracts/printable.ts'
import { ServerError } from '../errors.ts'
import { openGguf } from '../gguf/gguf-file.ts'
import { readGgufTokenizer, readGgufTokenizerConfig } from '../gguf-model/tokenizer-files.ts'
import { byteCharacters } from './byte-table.ts'
import { gpt2Expression, type SplitStep } from './pre-tokenizer.ts'

const addedToken = z.looseObject({
  id: z
    .int()
    .nonnegative()
    .lt(1 << 24),
  content: z.string().min(1),
  single_word: z.boolean().default(false),
  special: z.boolean().default(false),
  normalized: z.boolean().optional(),
  lstrip: z.boolean().optional(),
  rstrip: z.boolean().optional(),
})

const component = z.looseObject({ type: z.string() })
type Component = z.infer<typeof component>

const tokenizerSchema = z.looseObject({
  added_tokens: z.array(addedToken).default([]),
  normalizer: component.nullable().default(null),
  pre_tokenizer: component.nullable().default(null),
  post_processor: component.nullable().default(null),
  decoder: component.nullable().default(null),
  model: z.looseObject({
    type: z.string(),
    // 150,000 entries: their types are checked where they are read.
    vocab: z.custom<Record<string, number>>(
      (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
    ),
    merges: z.custom<readonly (string | readonly [string, string])[]>(Array.isArray),
    byte_fallback: z.boolean().nullish(),
    ignore_merges: z.boolean().nullish(),
    dropout: z.number().nullish(),
    unk_token: z.string().nullish(),
    continuing_subword_prefix: z.string().nullish(),
    end_of_word_suffix: z.string().nullish(),
  }),
})

const namedToken = z.union([z.string(), z.looseObject({ content: z.string() })]).nullish()
const configSchema = z.looseObject({
  bos_token: namedToken,
  eos_token: namedToken,
  pad_token: namedToken,
  unk_token: namedToken,
  added_tokens_decoder: z.record(z.string(), addedToken.omit({ id: true })).nullish(),
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))])
    .nullish(),
})

export type TokenizerJson = z.infer<typeof tokenizerSchema>
export type TokenizerConfig = z.infer<typeof configSchema>

/** As the files say it, unchecked. */
interface TokenizerSource {
  readonly json: () => unknown
  readonly config: () => unknown
}

/** What `use` makes of a checkpoint's folder, or of its GGUF file. */
function withSource<T>(path: string, use: (source: TokenizerSource) => T): T {
  if (!isGgufPath(path)) {
    const own = join(path, 'tokenizer_config.json')
    return use({
      json: () => readJson(join(path, 'tokenizer.json')),
      config: () => (existsSync(own) ? readJson(own) : {}),
    })
  }
  const file = openGguf(path)
  try {
    return use({
      json: () => readGgufTokenizer(file),
      config: () => readGgufTokenizerConfig(file),
    })
  } finally {
    file.close()
  }
}

export interface TokenizerFiles {
  readonly json: TokenizerJson
  readonly config: TokenizerConfig
}

export function readTokenizerFiles(path: string): TokenizerFiles {
  return withSource(path, (source) => {
    const config = checkConfig(source.config())
    return { config, json: checkJson(source.json(), config) }
  })
}

export function readTokenizerConfig(path: string): TokenizerConfig {
  return withSource(path, ({ config }) => checkConfig(config()))
}

function checkConfig(given: unknown): TokenizerConfig {
  return parseJson(configSchema, given, 'tokenizer_config.json')
}

function checkJson(given: unknown, config: TokenizerConfig): TokenizerJson {
  const json = parseJson(tokenizerSchema, given, 'tokenizer.json')
  // transformers adds what tokenizer_config.json names and tokenizer.json lacks.
  const known = new Set(json.added_tokens.map((token) => token.content))
  for (const [id, token] of Object.entries(config.added_tokens_decoder ?? {})) {
    if (known.has(token.content)) continue
    const added = { ...token, id: Number(id) }
    json.added_tokens.push(parseJson(addedToken, added, 'tokenizer_config.json'))
  }
  refuseUnsupported(json)
  return json
}

/** bos_token, eos_token, … as text. */
export function namedTokens(config: TokenizerConfig): Record<string, string> {
  const names = ['bos_token', 'eos_token', 'pad_token', 'unk_token'] as const
  const texts = names.map((name) => {
    const token = config[name]
    return [name, typeof token === 'object' && token !== null ? token.content : token] as const
  })
  return Object.fromEntries(
    texts.filter((entry): entry is [(typeof names)[number], string] => Boolean(entry[1])),
  )
}

export interface PromptFrame {
  readonly prefix: readonly string[]
  readonly suffix: readonly string[]
}

/** The special tokens around a plain prompt. add_bos_token or add_eos_token, where given, decide. */
export function readPromptFrame(json: TokenizerJson, config: TokenizerConfig): PromptFrame {
  if ('add_bos_token' in config || 'add_eos_token' in config) {
    const { bos_token: bos, eos_token: eos } = namedTokens(config)
    return {
      prefix: config.add_bos_token === true && bos ? [bos] : [],
      suffix: config.add_eos_token === true && eos ? [eos] : [],
    }
  }
  let frame: PromptFrame = { prefix: [], suffix: [] }
  for (const processor of flatten(json.post_processor, 'processors')) {
    if (processor.type === 'ByteLevel') continue
    if (processor.type !== 'TemplateProcessing') {
      unsupported(`post_processor ${processor.type}`)
    }
    const own = parseJson(templateSchema, processor, 'tokenizer.json: post_processor')
    const texts = own.single.map((item) => ('Sequence' in item ? null : item.SpecialToken.id))
    const at = texts.indexOf(null)
    frame = {
      prefix: [...(texts.slice(0, at) as string[]), ...frame.prefix],
      suffix: [...frame.suffix, ...(texts.slice(at + 1) as string[])],
    }
  }
  return frame
}

const templateSchema = z.looseObject({
  single: z
    .array(
      z.union([
        z.object({ Sequence: z.looseObject({ id: z.literal('A') }) }),
        z.object({ SpecialToken: z.looseObject({ id: z.string() }) }),
      ]),
    )
    .refine((items) => items.filter((item) => 'Sequence' in item).length === 1),
})

function refuseUnsupported(json: TokenizerJson): void {
  const { model } = json
  if (model.type !== 'BPE') unsupported(`model ${model.type}`)
  if (model.byte_fallback) unsupported('model.byte_fallback (SentencePiece)')
  if (model.continuing_subword_prefix) unsupported('model.continuing_subword_prefix')
  if (model.end_of_word_suffix) unsupported('model.end_of_word_suffix')
  if (model.dropout) unsupported('model.dropout')
  if (typeof model.unk_token === 'string' && byteCharacters.some((c) => !(c in model.vocab))) {
    unsupported('model.unk_token with a vocabulary that lacks a byte')
  }
  for (const step of flatten(json.normalizer, 'normalizers')) {
    if (step.type !== 'NFC') unsupported(`normalizer ${step.type}`)
  }
  const single = json.added_tokens.find((token) => token.single_word)
  if (single) unsupported('an added token with single_word')
  refuseConflicts(json)
}

/** The reference goes by the text; a file that gives a text or an id twice means something else. */
function refuseConflicts({ added_tokens: added, model }: TokenizerJson): void {
  const texts = new Map(Object.entries(model.vocab).map(([text, id]) => [id, text]))
  for (const { id, content } of added) {
    const known = Object.hasOwn(model.vocab, content) ? model.vocab[content] : undefined
    const other = texts.get(id)
    texts.set(id, content)
    if ((known ?? id) === id && (other ?? content) === content) continue
    const what = known === undefined ? 'shares its id with another' : `has the id ${known} too`
    throw new ServerError(
      'invalid_checkpoint',
      `tokenizer.json: the added token ${quoteName(content)} of the id ${id} ${what}.`,
    )
  }
}

/** Whether text is normalised to NFC, the only normalizer there is. */
export function usesNfc({ normalizer }: TokenizerJson): boolean {
  return flatten(normalizer, 'normalizers').length > 0
}

/** How text is cut into words: the pre-tokenizer's steps up to ByteLevel, which must be the last. */
export function readSplitSteps(json: TokenizerJson): SplitStep[] {
  const components = flatten(json.pre_tokenizer, 'pretokenizers')
  if (components.at(-1)?.type !== 'ByteLevel') unsupported('a pre_tokenizer that is not ByteLevel')
  return components.flatMap((component, i): SplitStep[] => {
    const { type, behavior, invert, pattern } = component
    if (component.add_prefix_space === true) unsupported('pre_tokenizer add_prefix_space')
    if (type === 'ByteLevel' && i === components.length - 1) {
      return component.use_regex === false ? [] : [{ kind: 'expression', source: gpt2Expression }]
    }
    if (type === 'Digits') {
      return [{ kind: 'digits', areIndividual: component.individual_digits === true }]
    }
    if (type !== 'Split' || behavior !== 'Isolated' || invert === true) {
      unsupported(`pre_tokenizer ${type} ${typeof behavior === 'string' ? behavior : ''}`.trim())
    }
    const own = parseJson(splitPattern, pattern, 'tokenizer.json: pre_tokenizer Split pattern')
    if ('Regex' in own) return [{ kind: 'expression', source: own.Regex }]
    return [{ kind: 'literal', text: own.String }]
  })
}

const splitPattern = z.union([
  z.strictObject({ Regex: z.string().min(1).max(10_000) }),
  z.strictObject({ String: z.string().min(1) }),
])

/** A component, or the parts of a Sequence of them. */
function flatten(value: Component | null, partsKey: string): Component[] {
  if (value === null) return []
  if (value.type !== 'Sequence') return [value]
  const parts = parseJson(z.array(component), value[partsKey], 'tokenizer.json')
  return parts.flatMap((part) => flatten(part, partsKey))
}

function unsupported(what: string): never {
  throw new ServerError(
    'unsupported_checkpoint',
    `tokenizer.json: ${what} is not supported; byte-level BPE (Qwen2, Llama 3, DeepSeek, GPT-2) is.`,
  )
}
