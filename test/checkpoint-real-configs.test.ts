// The config.json of checkpoints that people will serve, in their own spelling, written by hand from
// their published shapes: the sizes that come out, and how many parameters they make.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseModelConfig } from '../server/checkpoint/checkpoint-config.ts'
import { expectedTensors } from '../server/checkpoint/checkpoint-tensors.ts'
import { parseGenerationDefaults } from '../server/checkpoint/generation-defaults.ts'
import type { ModelConfig } from '../server/contracts/checkpoint.ts'

const qwenDistill = {
  architectures: ['Qwen2ForCausalLM'],
  attention_dropout: 0.0,
  bos_token_id: 151643,
  eos_token_id: 151643,
  hidden_act: 'silu',
  initializer_range: 0.02,
  max_position_embeddings: 131072,
  model_type: 'qwen2',
  rms_norm_eps: 1e-6,
  sliding_window: 4096,
  tie_word_embeddings: false,
  torch_dtype: 'bfloat16',
  transformers_version: '4.44.0',
  use_cache: true,
  use_mrope: false,
  use_sliding_window: false,
}
const llama8b = {
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  attention_dropout: 0.0,
  bos_token_id: 128000,
  eos_token_id: 128001,
  hidden_act: 'silu',
  hidden_size: 4096,
  initializer_range: 0.02,
  intermediate_size: 14336,
  max_position_embeddings: 131072,
  mlp_bias: false,
  model_type: 'llama',
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  pretraining_tp: 1,
  rms_norm_eps: 1e-5,
  rope_scaling: {
    factor: 8.0,
    high_freq_factor: 4.0,
    low_freq_factor: 1.0,
    original_max_position_embeddings: 8192,
    rope_type: 'llama3',
  },
  rope_theta: 500000.0,
  tie_word_embeddings: false,
  torch_dtype: 'bfloat16',
  transformers_version: '4.43.0',
  use_cache: true,
  vocab_size: 128256,
}
const qwen7b = {
  ...qwenDistill,
  hidden_size: 3584,
  intermediate_size: 18944,
  max_window_layers: 28,
  num_attention_heads: 28,
  num_hidden_layers: 28,
  num_key_value_heads: 4,
  rope_theta: 10000,
  vocab_size: 152064,
}
const qwenHalfB = {
  ...qwenDistill,
  eos_token_id: 151645,
  hidden_size: 896,
  intermediate_size: 4864,
  max_position_embeddings: 32768,
  max_window_layers: 21,
  num_attention_heads: 14,
  num_hidden_layers: 24,
  num_key_value_heads: 2,
  rope_theta: 1000000.0,
  sliding_window: 32768,
  tie_word_embeddings: true,
  vocab_size: 151936,
}

const llamaScaling = {
  kind: 'llama3',
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalMaxPosition: 8192,
} as const

interface Known {
  readonly json: object
  readonly numParameters: number
  readonly means: Partial<ModelConfig>
}

const checkpoints: Record<string, Known> = {
  'DeepSeek-R1-Distill-Qwen-1.5B': {
    json: {
      ...qwenDistill,
      hidden_size: 1536,
      intermediate_size: 8960,
      max_window_layers: 21,
      num_attention_heads: 12,
      num_hidden_layers: 28,
      num_key_value_heads: 2,
      rope_theta: 10000,
      vocab_size: 151936,
    },
    numParameters: 1_777_088_000,
    means: { headDim: 128, maxPosition: 131072, ropeScaling: null, qkvBias: true },
  },
  'DeepSeek-R1-Distill-Qwen-7B': {
    json: qwen7b,
    numParameters: 7_615_616_512,
    means: { headDim: 128, ropeTheta: 10000, outputBias: false, tieWordEmbeddings: false },
  },
  'DeepSeek-R1-Distill-Qwen-14B': {
    json: {
      ...qwenDistill,
      hidden_size: 5120,
      intermediate_size: 13824,
      max_window_layers: 48,
      num_attention_heads: 40,
      num_hidden_layers: 48,
      num_key_value_heads: 8,
      rms_norm_eps: 1e-5,
      rope_theta: 1000000.0,
      sliding_window: 131072,
      vocab_size: 152064,
    },
    numParameters: 14_770_033_664,
    means: { headDim: 128, ropeTheta: 1e6, rmsNormEps: 1e-5 },
  },
  'DeepSeek-R1-Distill-Llama-8B': {
    json: llama8b,
    numParameters: 8_030_261_248,
    means: { headDim: 128, ropeTheta: 5e5, ropeScaling: llamaScaling, qkvBias: false },
  },
  // Fine-tuned from the same base; several tokens end its answers.
  'Llama-Guard-3-8B': {
    json: { ...llama8b, eos_token_id: [128001, 128008, 128009] },
    numParameters: 8_030_261_248,
    means: { numKvHeads: 8, ropeScaling: llamaScaling, mlpBias: false },
  },
  'Qwen2.5-0.5B-Instruct': {
    json: qwenHalfB,
    numParameters: 494_032_768,
    means: { headDim: 64, tieWordEmbeddings: true, maxPosition: 32768 },
  },
  'Qwen2.5-7B-Instruct': {
    json: {
      ...qwen7b,
      eos_token_id: 151645,
      max_position_embeddings: 32768,
      rope_theta: 1000000.0,
      sliding_window: 131072,
    },
    numParameters: 7_615_616_512,
    means: { maxPosition: 32768, ropeTheta: 1e6 },
  },
  'Qwen2.5-7B-Instruct with YaRN for long texts': {
    json: {
      ...qwen7b,
      max_position_embeddings: 32768,
      rope_theta: 1000000.0,
      rope_scaling: { factor: 4.0, original_max_position_embeddings: 32768, type: 'yarn' },
    },
    numParameters: 7_615_616_512,
    means: { maxPosition: 131072 },
  },
  'Qwen2.5-0.5B as transformers 5 saves it': {
    json: {
      ...qwenHalfB,
      dtype: 'bfloat16',
      layer_types: Array(24).fill('full_attention'),
      pad_token_id: null,
      rope_parameters: { rope_theta: 1000000.0, rope_type: 'default' },
      rope_theta: undefined,
      sliding_window: null,
      torch_dtype: undefined,
    },
    numParameters: 494_032_768,
    means: { ropeTheta: 1e6, ropeScaling: null },
  },
}

describe('config.json of real checkpoints', () => {
  for (const [name, { json, numParameters, means }] of Object.entries(checkpoints)) {
    it(`${name} is read`, () => {
      const config = parseModelConfig(JSON.parse(JSON.stringify(json)))
      const found = Object.keys(means).map((key) => [key, config[key as keyof ModelConfig]])
      assert.deepEqual(Object.fromEntries(found), means)
      let count = 0
      for (const dims of expectedTensors(config).values()) count += dims.reduce((x, y) => x * y)
      assert.equal(count, numParameters)
    })
  }

  it('generation settings: R1’s own, and every end token of the guard', () => {
    const r1 = {
      _from_model_config: true,
      bos_token_id: 151646,
      eos_token_id: 151643,
      do_sample: true,
      temperature: 0.6,
      top_p: 0.95,
      transformers_version: '4.39.3',
    }
    assert.deepEqual(parseGenerationDefaults(r1, qwen7b), {
      eosTokenIds: [151643],
      sampling: {
        temperature: 0.6,
        topP: 0.95,
        topK: 0,
        minP: 0,
        presencePenalty: 0,
        frequencyPenalty: 0,
        repetitionPenalty: 1,
      },
      unsupported: [],
    })
    const guard = checkpoints['Llama-Guard-3-8B']!.json
    assert.deepEqual(parseGenerationDefaults(null, guard).eosTokenIds, [128001, 128008, 128009])
  })
})
