// config.json of a Hugging Face checkpoint → ModelConfig. Defaults are those of transformers; what
// the graph cannot do is refused with the name of the field.

import { z } from 'zod'
import type { Architecture, ModelConfig } from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'
import { eosField } from './generation-defaults.ts'
import { parseJson } from './json.ts'
import { type Rope, readRope, ropeSchema } from './rope-config.ts'

const size = z.int().positive().max(16_777_216)
const configSchema = z.looseObject({
  architectures: z.array(z.string()).nullish(),
  model_type: z.string().nullish(),
  hidden_size: size.default(4096),
  intermediate_size: size.nullish(),
  num_hidden_layers: size.max(1000).default(32),
  num_attention_heads: size.default(32),
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  vocab_size: size.nullish(),
  max_position_embeddings: size.nullish(),
  rms_norm_eps: z.number().positive().default(1e-6),
  hidden_act: z.string().default('silu'),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: ropeSchema.nullish(),
  rope_parameters: ropeSchema.nullish(),
  original_max_position_embeddings: size.nullish(),
  partial_rotary_factor: z.number().nullish(),
  use_sliding_window: z.boolean().nullish(),
  sliding_window: z.int().nullish(),
  max_window_layers: z.int().nullish(),
  layer_types: z.array(z.string()).nullish(),
  quantization_config: z.unknown().optional(),
  ...eosField,
})
type RawConfig = z.infer<typeof configSchema>

const familyDefaults = {
  Qwen2ForCausalLM: { vocabSize: 151936, intermediateSize: 22016, maxPosition: 32768, kvHeads: 32 },
  LlamaForCausalLM: { vocabSize: 32000, intermediateSize: 11008, maxPosition: 2048, kvHeads: null },
} as const satisfies Record<Architecture, object>

const architectureOfModelType: Readonly<Record<string, Architecture>> = {
  qwen2: 'Qwen2ForCausalLM',
  llama: 'LlamaForCausalLM',
}

export function parseModelConfig(json: unknown): ModelConfig {
  const raw = parseJson(configSchema, json, 'config.json')
  const architecture = findArchitecture(raw)
  refuseUnsupported(raw, architecture)
  const family = familyDefaults[architecture]
  const isLlama = architecture === 'LlamaForCausalLM'
  const numHeads = raw.num_attention_heads
  const maxPosition = raw.max_position_embeddings ?? family.maxPosition
  const rope = readRope(raw, maxPosition)
  const config: ModelConfig = {
    architecture,
    hiddenSize: raw.hidden_size,
    intermediateSize: raw.intermediate_size ?? family.intermediateSize,
    numLayers: raw.num_hidden_layers,
    numHeads,
    numKvHeads: raw.num_key_value_heads ?? family.kvHeads ?? numHeads,
    headDim: raw.head_dim ?? Math.floor(raw.hidden_size / numHeads),
    vocabSize: raw.vocab_size ?? family.vocabSize,
    maxPosition: longestContext(rope, maxPosition),
    ...rope,
    rmsNormEps: raw.rms_norm_eps,
    tieWordEmbeddings: raw.tie_word_embeddings,
    qkvBias: isLlama ? raw.attention_bias === true : true,
    outputBias: isLlama && raw.attention_bias === true,
    mlpBias: isLlama && raw.mlp_bias === true,
  }
  checkHeads(config, raw)
  return config
}

function findArchitecture(raw: RawConfig): Architecture {
  const named = raw.architectures?.[0] ?? architectureOfModelType[raw.model_type ?? '']
  if (named === 'Qwen2ForCausalLM' || named === 'LlamaForCausalLM') return named
  return unsupported(
    'architectures',
    `is ${JSON.stringify(named ?? null)}; Qwen2ForCausalLM and LlamaForCausalLM are supported`,
  )
}

function refuseUnsupported(raw: RawConfig, architecture: Architecture): void {
  if (raw.hidden_act !== 'silu') unsupported('hidden_act', `is "${raw.hidden_act}"; only silu is`)
  if (raw.quantization_config !== undefined && raw.quantization_config !== null) {
    unsupported('quantization_config', 'is set; use the unquantised checkpoint and --weights')
  }
  if ((raw.partial_rotary_factor ?? 1) !== 1) {
    unsupported('partial_rotary_factor', `is ${raw.partial_rotary_factor}; only 1 is`)
  }
  if (architecture === 'Qwen2ForCausalLM' && usesSlidingWindow(raw)) {
    unsupported('use_sliding_window', 'is active; only full attention is')
  }
}

/** A window as long as the context hides nothing. */
function usesSlidingWindow(raw: RawConfig): boolean {
  const maxPosition = raw.max_position_embeddings ?? familyDefaults.Qwen2ForCausalLM.maxPosition
  if ((raw.sliding_window ?? 4096) >= maxPosition) return false
  if (raw.layer_types) return raw.layer_types.some((kind) => kind !== 'full_attention')
  if (raw.use_sliding_window !== true || raw.sliding_window === null) return false
  return (raw.max_window_layers ?? 28) < raw.num_hidden_layers
}

/**
 * The longest context. YaRN is switched on by adding it to a checkpoint whose
 * max_position_embeddings stays what it was trained with.
 */
function longestContext({ ropeScaling }: Rope, maxPosition: number): number {
  if (ropeScaling?.kind !== 'yarn') return maxPosition
  return Math.max(maxPosition, Math.floor(ropeScaling.originalMaxPosition * ropeScaling.factor))
}

function checkHeads(config: ModelConfig, raw: RawConfig): void {
  const { hiddenSize, numHeads, numKvHeads, headDim } = config

  function broken(message: string): never {
    throw new ServerError('invalid_checkpoint', `config.json: ${message}.`)
  }

  if (!raw.head_dim && hiddenSize % numHeads !== 0) {
    broken(`hidden_size ${hiddenSize} is no multiple of num_attention_heads ${numHeads}`)
  }
  if (numHeads % numKvHeads !== 0) {
    broken(`num_attention_heads ${numHeads} is no multiple of num_key_value_heads ${numKvHeads}`)
  }
  if (headDim % 2 !== 0) broken(`head_dim ${headDim} is odd`)
}

function unsupported(field: string, clause: string): never {
  throw new ServerError('unsupported_checkpoint', `config.json: ${field} ${clause} supported.`)
}
