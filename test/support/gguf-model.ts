// A GGUF file in memory: the metadata of a small model with a tokenizer, and tensors with or without
// values.

import type { GgufFile } from '../../server/gguf/gguf-file.ts'
import type { GgufValue } from '../../server/gguf/gguf-metadata.ts'

export type Metadata = Readonly<Record<string, GgufValue | undefined>>

/** Every byte as GGUF's tokenizers write it: the printable ones here are enough. */
const letters = [...'abcdefgh']
const smallMetadata: Metadata = {
  'general.architecture': 'llama',
  'llama.block_count': 2,
  'llama.context_length': 64,
  'llama.embedding_length': 16,
  'llama.feed_forward_length': 24,
  'llama.attention.head_count': 2,
  'llama.attention.head_count_kv': 1,
  // 1e-5 as float32.
  'llama.attention.layer_norm_rms_epsilon': 9.999999747378752e-6,
  'llama.rope.freq_base': 500_000,
  'tokenizer.ggml.model': 'gpt2',
  'tokenizer.ggml.pre': 'llama-bpe',
  'tokenizer.ggml.tokens': [...letters, 'ab', '<|begin|>', '<|eot_id|>', '<think>', '[PAD12]'],
  'tokenizer.ggml.token_type': [...letters.map(() => 1), 1, 3, 3, 4, 5],
  'tokenizer.ggml.merges': ['a b'],
  'tokenizer.ggml.bos_token_id': 9,
  'tokenizer.ggml.eos_token_id': 2,
  'tokenizer.chat_template': '{{ messages }}',
}

/** Changes that make it a Qwen2. */
export const asQwen2: Metadata = Object.fromEntries(
  Object.entries(smallMetadata)
    .filter(([key]) => key.startsWith('llama.'))
    .map(([key, value]) => [key.replace('llama', 'qwen2'), value] as const)
    .concat([['general.architecture', 'qwen2']]),
)

type Tensors = Readonly<Record<string, readonly number[] | Float32Array>>

/** Undefined values take an entry out. A list is the shape of a tensor that is never read. */
export function memoryGguf(changes: Metadata = {}, tensors: Tensors = {}): GgufFile {
  const pairs = Object.entries({ ...smallMetadata, ...changes })
  const all: Tensors = { 'token_embd.weight': [13, 16], ...tensors }
  function valuesOf(name: string): Float32Array {
    const values = all[name]
    if (values instanceof Float32Array) return values
    throw new Error(`${name} has no values`)
  }

  return {
    metadata: new Map(pairs.filter((pair): pair is [string, GgufValue] => pair[1] !== undefined)),
    tensors: new Map(
      Object.entries(all).map(([name, tensor]) => {
        const shape = tensor instanceof Float32Array ? [tensor.length] : tensor
        return [name, { type: 'F32', shape }]
      }),
    ),
    paths: ['folder/small.gguf'],
    readFloat32: valuesOf,
    readFloat32Rows: (name, first, count) => valuesOf(name).subarray(first, first + count),
    readStoredRows: () => new Uint8Array(),
    close() {},
  }
}
