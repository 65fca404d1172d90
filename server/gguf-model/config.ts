// A GGUF file's metadata → config.json as Hugging Face has it, which the rest of the server reads and
// an export writes. What would change the numbers and is not known here is refused by its key.

import { z } from 'zod'
import type { GgufFile } from '../gguf/gguf-file.ts'
import { type Metadata, readMetadata, shortestDecimal } from './metadata.ts'
import { readRopeScaling, ropeFields } from './rope.ts'

const families = {
  llama: { architectures: ['LlamaForCausalLM'], model_type: 'llama' },
  qwen2: { architectures: ['Qwen2ForCausalLM'], model_type: 'qwen2' },
} as const
export type Family = keyof typeof families

const size = z.int().positive()
/** One number for all layers, or one for each. */
const ofLayers = z.union([size, z.array(size).min(1)])
const modelSchema = z.looseObject({
  block_count: size,
  context_length: size,
  embedding_length: size,
  feed_forward_length: ofLayers,
  'attention.head_count': ofLayers,
  'attention.head_count_kv': ofLayers.optional(),
  'attention.key_length': size.optional(),
  'attention.value_length': size.optional(),
  'attention.layer_norm_rms_epsilon': z.number().positive(),
  'attention.sliding_window': z.int().nonnegative().optional(),
  ...ropeFields,
})
type Model = z.infer<typeof modelSchema>

/** Of other models of these families: their numbers are computed in another way. */
const neutral: Readonly<Record<string, (value: unknown) => boolean>> = {
  expert_count: (value) => value === 0,
  expert_used_count: (value) => value === 0,
  use_parallel_residual: (value) => value === false,
  logit_scale: isZeroOrOne,
  residual_scale: isZeroOrOne,
  embedding_scale: isZeroOrOne,
  attn_logit_softcapping: (value) => value === 0,
  final_logit_softcapping: (value) => value === 0,
  'attention.causal': (value) => value === true,
  'attention.scale': (value) => value === 0,
  'attention.clamp_kqv': (value) => value === 0,
  'attention.max_alibi_bias': (value) => value === 0,
}

function isZeroOrOne(value: unknown): boolean {
  return value === 0 || value === 1
}

export interface GgufShape {
  readonly family: Family
  readonly headDim: number
  /** config.json; ids of tokens are not in it. */
  readonly config: Readonly<Record<string, unknown>>
}

/** Throws ServerError with the key's name. */
export function readGgufShape(file: GgufFile): GgufShape {
  const metadata = readMetadata(file)
  const family = readFamily(metadata)
  const model = metadata.read(`${family}.`, modelSchema)
  refuseOthers(metadata, family, model)
  const uniform = (key: keyof Model & string) => uniformOf(metadata, family, key, model[key])
  const hidden = model.embedding_length
  const heads = uniform('attention.head_count')!
  const headDim = model['attention.key_length'] ?? Math.floor(hidden / heads)
  checkHeadDim(metadata, family, model, headDim)
  const scaling = readRopeScaling({ file, metadata, family, model, headDim })
  const has = (name: string) => file.tensors.has(name)
  const config = {
    ...families[family],
    hidden_size: hidden,
    intermediate_size: uniform('feed_forward_length'),
    num_hidden_layers: model.block_count,
    num_attention_heads: heads,
    num_key_value_heads: uniform('attention.head_count_kv') ?? heads,
    head_dim: headDim,
    vocab_size: embeddingRows(file, metadata),
    max_position_embeddings: model.context_length,
    rms_norm_eps: shortestDecimal(model['attention.layer_norm_rms_epsilon']),
    rope_theta: shortestDecimal(model['rope.freq_base'] ?? 10_000),
    ...(scaling && { rope_scaling: scaling }),
    hidden_act: 'silu',
    tie_word_embeddings: !has('output.weight'),
    ...(family === 'llama' && {
      attention_bias: has('blk.0.attn_q.bias'),
      mlp_bias: has('blk.0.ffn_gate.bias'),
    }),
  }
  return { family, headDim, config }
}

function readFamily(metadata: Metadata): Family {
  const { architecture } = metadata.read('general.', z.looseObject({ architecture: z.string() }))
  if (Object.hasOwn(families, architecture)) return architecture as Family
  return metadata.refuse(
    'general.architecture',
    `is ${JSON.stringify(architecture.slice(0, 60))}; llama and qwen2 are supported`,
  )
}

function refuseOthers(metadata: Metadata, family: Family, model: Model): void {
  for (const [key, isNeutral] of Object.entries(neutral)) {
    const value = model[key]
    if (value === undefined || isNeutral(value)) continue
    metadata.refuse(`${family}.${key}`, `is ${String(value).slice(0, 60)}, which is not supported`)
  }
  const window = model['attention.sliding_window'] ?? 0
  if (window > 0 && window < model.context_length) {
    metadata.refuse(
      `${family}.attention.sliding_window`,
      `is ${window} of ${model.context_length} positions; only full attention is supported`,
    )
  }
}

function uniformOf(
  metadata: Metadata,
  family: Family,
  key: string,
  value: unknown,
): number | undefined {
  const list = Array.isArray(value) ? (value as number[]) : [value as number | undefined]
  if (list.every((one) => one === list[0])) return list[0]
  return metadata.refuse(`${family}.${key}`, 'differs between layers, which is not supported')
}

function checkHeadDim(metadata: Metadata, family: Family, model: Model, headDim: number): void {
  const values = model['attention.value_length'] ?? headDim
  if (values !== headDim) {
    metadata.refuse(
      `${family}.attention.value_length`,
      `is ${values} and keys have ${headDim}; only equal lengths are supported`,
    )
  }
  const rotated = model['rope.dimension_count'] ?? headDim
  if (rotated !== headDim) {
    metadata.refuse(
      `${family}.rope.dimension_count`,
      `is ${rotated} of ${headDim}; only all of a head's dimensions are supported`,
    )
  }
}

function embeddingRows(file: GgufFile, metadata: Metadata): number {
  const rows = file.tensors.get('token_embd.weight')?.shape[0]
  return rows ?? metadata.invalid('token_embd.weight', 'is missing: the file has no embedding')
}
