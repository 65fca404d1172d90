// How text is cut into words, by tokenizer.ggml.pre: the pre_tokenizer of each family's own
// tokenizer.json. A name that is not here is refused, for another cut gives other tokens.

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
const rest = ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'
const qwen2 = `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|${rest}`
const llama3 = `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|${rest}`

export interface PreTokenizer {
  readonly normalizer: { readonly type: 'NFC' } | null
  readonly steps: readonly object[]
  /** A word that is a token is that token, whatever the merges make of it. */
  readonly ignoresMerges: boolean
  /** Where the file does not say. */
  readonly addsBos: boolean
}

function split(expression: string): object {
  return { type: 'Split', pattern: { Regex: expression }, behavior: 'Isolated', invert: false }
}

function bytes(usesExpression: boolean): object {
  return {
    type: 'ByteLevel',
    add_prefix_space: false,
    trim_offsets: true,
    use_regex: usesExpression,
  }
}

const digits = { type: 'Digits', individual_digits: true }
const plain = { normalizer: null, ignoresMerges: false, addsBos: false } as const
const qwen = { ...plain, normalizer: { type: 'NFC' }, steps: [split(qwen2), bytes(false)] } as const
const llama = {
  ...plain,
  steps: [split(llama3), bytes(false)],
  ignoresMerges: true,
  addsBos: true,
} as const

const known: Readonly<Record<string, PreTokenizer>> = {
  qwen2: qwen,
  'deepseek-r1-qwen': qwen,
  'llama-bpe': llama,
  llama3: llama,
  'llama-v3': llama,
  smollm: { ...plain, steps: [digits, bytes(true)] },
  'gpt-2': { ...plain, steps: [bytes(true)] },
  'deepseek-coder': {
    ...plain,
    steps: [
      split('[\r\n]'),
      split('\\s?\\p{L}+'),
      split('\\s?\\p{P}+'),
      split('[一-龥ࠀ-一가-\ud7ff]+'),
      digits,
      bytes(false),
    ],
  },
}

export const preTokenizerNames = Object.keys(known)

export function findPreTokenizer(name: string | undefined): PreTokenizer | undefined {
  return name !== undefined && Object.hasOwn(known, name) ? known[name] : undefined
}
