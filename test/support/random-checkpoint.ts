// A small checkpoint of random weights, written as Hugging Face has it, for tests of numbers that
// need no tokenizer.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseModelConfig } from '../../server/checkpoint/checkpoint-config.ts'
import { expectedTensors } from '../../server/checkpoint/checkpoint-tensors.ts'
import { createRandomNumbers, normal } from './random-numbers.ts'
import { encodeSafetensors, type TestTensor } from './tensor-files.ts'

const sizes = {
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 160,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-6,
  hidden_act: 'silu',
}

export const randomArchitectures = {
  qwen2: {
    ...sizes,
    architectures: ['Qwen2ForCausalLM'],
    model_type: 'qwen2',
    rope_theta: 10_000,
    tie_word_embeddings: true,
  },
  llama: {
    ...sizes,
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    head_dim: 32,
    rope_theta: 500_000,
    rope_scaling: {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 64,
    },
    tie_word_embeddings: false,
  },
} as const

/** Logits come out with a standard deviation of about 1. `changes`: other fields of config.json. */
export function writeRandomCheckpoint(
  dir: string,
  architecture: keyof typeof randomArchitectures,
  seed: number,
  changes: object = {},
): string {
  const json = { ...randomArchitectures[architecture], ...changes }
  const random = createRandomNumbers(seed)
  const tensors: Record<string, TestTensor> = {}
  for (const [name, shape] of expectedTensors(parseModelConfig(json))) {
    const length = shape.reduce((product, size) => product * size, 1)
    const isNorm = name.endsWith('norm.weight')
    const scale = shape.length === 1 ? 0.1 : 1 / Math.sqrt(shape[1] as number)
    const draw = () => (isNorm ? 1 : 0) + scale * normal(random)
    tensors[name] = { shape, data: Float32Array.from({ length }, draw) }
  }
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, 'config.json'), JSON.stringify(json))
  writeFileSync(join(dir, 'model.safetensors'), encodeSafetensors(tensors, { format: 'pt' }))
  return dir
}
