// A GGUF file's metadata as config.json and generation_config.json: what it means, and one clear line
// for what is not supported.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseModelConfig } from '../server/checkpoint/checkpoint-config.ts'
import { readGgufShape } from '../server/gguf-model/config.ts'
import { readGgufGeneration } from '../server/gguf-model/generation.ts'
import { asQwen2, type Metadata, memoryGguf } from './support/gguf-model.ts'

const configOf = (changes: Metadata = {}, tensors = {}) =>
  readGgufShape(memoryGguf(changes, tensors)).config

test('Llama: sizes, a decimal epsilon, tied embeddings where there is no head', () => {
  assert.deepEqual(configOf(), {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 8,
    vocab_size: 13,
    max_position_embeddings: 64,
    rms_norm_eps: 1e-5,
    rope_theta: 500_000,
    hidden_act: 'silu',
    tie_word_embeddings: true,
    attention_bias: false,
    mlp_bias: false,
  })
})

test('Qwen2, a head of its own, biases, head sizes: from keys and tensors', () => {
  const qwen2 = parseModelConfig(configOf(asQwen2, { 'output.weight': [13, 16] }))
  assert.equal(qwen2.architecture, 'Qwen2ForCausalLM')
  assert.deepEqual([qwen2.qkvBias, qwen2.tieWordEmbeddings], [true, false])
  const wide = { 'llama.attention.key_length': 32, 'llama.attention.value_length': 32 }
  const biased = { 'blk.0.attn_q.bias': [64], 'blk.0.ffn_gate.bias': [24] }
  const llama = parseModelConfig(configOf(wide, biased))
  assert.deepEqual([llama.headDim, llama.outputBias, llama.mlpBias], [32, true, true])
  assert.equal(configOf({ 'llama.attention.head_count_kv': undefined }).num_key_value_heads, 2)
  const same = configOf({ 'llama.feed_forward_length': [24, 24] })
  assert.equal(same.intermediate_size, 24)
})

test('rope scaling: linear, yarn, and Llama 3’s settings found again from its divisors', () => {
  const scalingOf = (changes: Metadata, tensors = {}) => configOf(changes, tensors).rope_scaling
  const scaling = 'llama.rope.scaling'
  assert.deepEqual(scalingOf({ [`${scaling}.type`]: 'linear', [`${scaling}.factor`]: 4 }), {
    rope_type: 'linear',
    factor: 4,
  })
  assert.equal(scalingOf({ [`${scaling}.type`]: 'none' }), undefined)
  const yarn = {
    [`${scaling}.type`]: 'yarn',
    [`${scaling}.factor`]: 4,
    [`${scaling}.original_context_length`]: 32,
  }
  assert.deepEqual(scalingOf(yarn), {
    rope_type: 'yarn',
    factor: 4,
    original_max_position_embeddings: 32,
  })
  for (const original of [32, 8192]) {
    const divisors = Float32Array.from(llama3Divisors(64, 500_000, 8, original))
    const rope = { 'llama.attention.key_length': 64, 'llama.attention.value_length': 64 }
    assert.deepEqual(scalingOf(rope, { 'rope_freqs.weight': divisors }), {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: original,
    })
  }
  assert.equal(scalingOf({}, { 'rope_freqs.weight': Float32Array.of(1, 1, 1, 1) }), undefined)
})

function llama3Divisors(size: number, base: number, factor: number, original: number): number[] {
  return Array.from({ length: size / 2 }, (_, i) => {
    const turns = original / (2 * Math.PI * base ** ((2 * i) / size))
    if (turns > 4) return 1
    if (turns < 1) return factor
    return 1 / ((1 - (turns - 1) / 3) / factor + (turns - 1) / 3)
  })
}

test('end tokens: what the file names, and the control tokens that templates end turns with', () => {
  const generationOf = (changes: Metadata = {}) => readGgufGeneration(memoryGguf(changes))
  assert.deepEqual(generationOf(), { bos_token_id: 9, eos_token_id: [2, 10] })
  // As text of the vocabulary it ends nothing.
  const types = [...Array(9).fill(1), 3, 1, 4, 5]
  assert.deepEqual(generationOf({ 'tokenizer.ggml.token_type': types }).eos_token_id, [2])
  const more = { 'tokenizer.ggml.eot_token_id': 5, 'tokenizer.ggml.eom_token_id': 2 }
  assert.deepEqual(generationOf(more).eos_token_id, [2, 5, 10])
  const sampled = { 'general.sampling.temp': Math.fround(0.6), 'general.sampling.top_p': 0.95 }
  const { do_sample, temperature, top_p } = generationOf(sampled)
  assert.deepEqual([do_sample, temperature, top_p], [true, 0.6, 0.95])
})

const refused: readonly (readonly [string, Metadata, string, object?])[] = [
  [
    'another architecture',
    { 'general.architecture': 'gemma2' },
    'small.gguf: general.architecture is "gemma2"; llama and qwen2 are supported.',
  ],
  [
    'experts',
    { 'llama.expert_count': 8 },
    'small.gguf: llama.expert_count is 8, which is not supported.',
  ],
  [
    'a sliding window',
    { 'llama.attention.sliding_window': 32 },
    'small.gguf: llama.attention.sliding_window is 32 of 64 positions; only full attention is supported.',
  ],
  [
    'layers of different sizes',
    { 'llama.attention.head_count': [2, 4] },
    'small.gguf: llama.attention.head_count differs between layers, which is not supported.',
  ],
  [
    'half of the dimensions rotated',
    { 'llama.rope.dimension_count': 4 },
    "small.gguf: llama.rope.dimension_count is 4 of 8; only all of a head's dimensions are supported.",
  ],
  [
    'values of another size',
    { 'llama.attention.value_length': 4 },
    'small.gguf: llama.attention.value_length is 4 and keys have 8; only equal lengths are supported.',
  ],
  [
    'long rope',
    { 'llama.rope.scaling.type': 'longrope' },
    'small.gguf: llama.rope.scaling.type is "longrope"; none, linear and yarn are supported.',
  ],
  [
    'settings of yarn that config.json has no word for',
    {
      'llama.rope.scaling.type': 'yarn',
      'llama.rope.scaling.factor': 4,
      'llama.rope.scaling.original_context_length': 32,
      'llama.rope.scaling.attn_factor': 0.5,
    },
    'small.gguf: llama.rope.scaling.attn_factor is 0.5; only 1 is supported.',
  ],
  [
    'divisors of an unknown kind',
    {},
    "small.gguf: rope_freqs.weight holds divisors that are not Llama 3's: not supported.",
    { 'rope_freqs.weight': Float32Array.of(1, 2, 3, 4) },
  ],
]
for (const [what, changes, message, tensors] of refused) {
  test(`${what}: refused by the key`, () => {
    assert.throws(() => configOf(changes, tensors), { code: 'unsupported_checkpoint', message })
  })
}

test('what is missing or of another type is named with its key', () => {
  const messageOf = (changes: Metadata, message: string) =>
    assert.throws(() => configOf(changes), { code: 'invalid_checkpoint', message })
  messageOf({ 'llama.block_count': undefined }, 'small.gguf: llama.block_count is missing.')
  messageOf({ 'general.architecture': undefined }, 'small.gguf: general.architecture is missing.')
  messageOf(
    { 'llama.context_length': '64' },
    'small.gguf: llama.context_length is wrong: Invalid input: expected number, received string.',
  )
  assert.throws(() => readGgufGeneration(memoryGguf({ 'tokenizer.ggml.eos_token_id': 99 })), {
    message: 'small.gguf: tokenizer.ggml.eos_token_id is 99; there are 13 tokens.',
  })
})
