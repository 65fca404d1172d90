// The tokens of a GGUF file: texts, kinds and the ids that have a part. Byte-level BPE only
// (tokenizer.ggml.model gpt2); other kinds of tokenizers are refused by name.

import { z } from 'zod'
import type { GgufFile } from '../gguf/gguf-file.ts'
import { type Metadata, readMetadata } from './metadata.ts'

/** As llama.cpp numbers them. */
export const tokenTypes = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5 } as const
const mostTokens = 1 << 24

const id = z.int().nonnegative().optional()
const ggmlSchema = z.looseObject({
  model: z.string(),
  pre: z.string().optional(),
  tokens: z.custom<readonly string[]>(isListOf('string'), 'it must be a list of texts'),
  token_type: z.custom<readonly number[]>(isListOf('number'), 'it must be numbers').optional(),
  merges: z.custom<readonly string[]>(isListOf('string'), 'it must be a list of texts').optional(),
  bos_token_id: id,
  eos_token_id: id,
  eot_token_id: id,
  eom_token_id: id,
  unknown_token_id: id,
  padding_token_id: id,
  add_bos_token: z.boolean().optional(),
  add_eos_token: z.boolean().optional(),
})

function isListOf(type: 'string' | 'number'): (value: unknown) => boolean {
  return (value) => {
    const list = value as ArrayLike<unknown> | null
    if (typeof value !== 'object' || typeof list?.length !== 'number') return false
    // Hundreds of thousands: no schema for each.
    for (let i = 0; i < list.length; i++) if (typeof list[i] !== type) return false
    return list.length <= mostTokens
  }
}

export interface Vocabulary {
  readonly tokens: readonly string[]
  readonly typeOf: (id: number) => number
  readonly merges: readonly string[]
  /** tokenizer.ggml.pre. */
  readonly pre: string | undefined
  /** By part: bos, eos, eot, eom, unknown, padding. */
  readonly ids: Readonly<Partial<Record<Part, number>>>
  readonly addsBos: boolean | undefined
  readonly addsEos: boolean | undefined
  readonly metadata: Metadata
}
const parts = ['bos', 'eos', 'eot', 'eom', 'unknown', 'padding'] as const
type Part = (typeof parts)[number]

const prefix = 'tokenizer.ggml.'

export function readVocabulary(file: GgufFile): Vocabulary {
  const metadata = readMetadata(file)
  const { model } = metadata.read(prefix, z.looseObject({ model: z.string() }))
  if (model !== 'gpt2') {
    metadata.refuse(
      `${prefix}model`,
      `is ${JSON.stringify(model.slice(0, 60))}; only gpt2 (byte-level BPE) is supported`,
    )
  }
  const ggml = metadata.read(prefix, ggmlSchema)
  const { tokens, token_type: types } = ggml
  if (types && types.length !== tokens.length) {
    metadata.invalid(
      `${prefix}token_type`,
      `has ${types.length} entries for ${tokens.length} tokens`,
    )
  }
  const ids: Partial<Record<Part, number>> = {}
  for (const part of parts) {
    const id = ggml[`${part}_token_id`]
    // Some files say 2^32 − 1 for "none".
    if (id === undefined || id === 0xffffffff) continue
    if (id >= tokens.length) {
      metadata.invalid(`${prefix}${part}_token_id`, `is ${id}; there are ${tokens.length} tokens`)
    }
    ids[part] = id
  }
  return {
    tokens,
    typeOf: (id) => types?.[id] ?? tokenTypes.normal,
    merges: ggml.merges ?? metadata.invalid(`${prefix}merges`, 'is missing'),
    pre: ggml.pre,
    ids,
    addsBos: ggml.add_bos_token,
    addsEos: ggml.add_eos_token,
    metadata,
  }
}

export function isAdded(type: number): boolean {
  return (
    type === tokenTypes.control || type === tokenTypes.userDefined || type === tokenTypes.unknown
  )
}
