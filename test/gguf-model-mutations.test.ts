// Metadata of any shape: read, or refused in one clear line. The seed is fixed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseModelConfig } from '../server/checkpoint/checkpoint-config.ts'
import { ServerError } from '../server/errors.ts'
import type { GgufValue } from '../server/gguf/gguf-metadata.ts'
import { readGgufShape } from '../server/gguf-model/config.ts'
import { readGgufGeneration } from '../server/gguf-model/generation.ts'
import { readGgufTokenizer, readGgufTokenizerConfig } from '../server/gguf-model/tokenizer-files.ts'
import { asQwen2, memoryGguf } from './support/gguf-model.ts'

const keys = [
  ...memoryGguf(asQwen2).metadata.keys(),
  ...['type', 'factor', 'original_context_length', 'attn_factor', 'yarn_beta_fast'].map(
    (name) => `llama.rope.scaling.${name}`,
  ),
  ...['key_length', 'value_length', 'sliding_window', 'scale'].map(
    (name) => `llama.attention.${name}`,
  ),
  'llama.rope.dimension_count',
  'llama.expert_count',
  'tokenizer.ggml.eot_token_id',
  'tokenizer.ggml.add_bos_token',
  'tokenizer.ggml.add_eos_token',
  'general.sampling.temp',
]
const plain: fc.Arbitrary<GgufValue> = fc.oneof(
  fc.integer({ min: -2, max: 40 }),
  fc.double(),
  fc.bigInt(),
  fc.boolean(),
  fc.constantFrom(
    'llama',
    'qwen2',
    'gpt2',
    'smollm',
    'yarn',
    'linear',
    '__proto__',
    '<|im_end|>',
    '',
  ),
)
const value = fc.oneof(plain, fc.array(plain, { maxLength: 14 }), fc.constant(undefined))
const changes = fc
  .array(fc.tuple(fc.constantFrom(...keys), value), { maxLength: 4 })
  .map((pairs) => Object.fromEntries(pairs))
const divisors = fc.option(fc.float32Array({ minLength: 3, maxLength: 5 }), { nil: undefined })

test('what is not refused is a configuration and a tokenizer', () => {
  let numRead = 0
  const readers = [
    (file: ReturnType<typeof memoryGguf>) => parseModelConfig(readGgufShape(file).config),
    readGgufGeneration,
    readGgufTokenizer,
    readGgufTokenizerConfig,
  ]
  fc.assert(
    fc.property(changes, divisors, (metadata, factors) => {
      const tensors = factors === undefined ? {} : { 'rope_freqs.weight': factors }
      for (const read of readers) {
        try {
          assert.ok(read(memoryGguf(metadata, tensors)))
          numRead++
        } catch (error) {
          assert.ok(error instanceof ServerError, String((error as Error).stack))
          assert.match(error.code, /^(invalid|unsupported)_checkpoint$/)
          assert.doesNotMatch(error.message, /\n/)
        }
      }
    }),
    { numRuns: 3000, seed: 20_261_129 },
  )
  assert.ok(numRead > 3000)
})
