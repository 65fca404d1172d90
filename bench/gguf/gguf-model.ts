// A checkpoint, and rank-1 adapters for it, as the GGUF files that llama.cpp loads. Every matrix is
// in the asked block format, lm_head too, so that both engines read as many weights of as many
// bits.
//   node dist/bench/gguf/gguf-model.js runs/random-0.5b Q4_0 runs/random-0.5b-Q4_0.gguf

import { existsSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openCheckpoint } from '../../server/checkpoint/checkpoint.ts'
import type { ModelConfig } from '../../server/contracts/checkpoint.ts'
import { type BlockType, blockBytes, blockSize, quantizeBlocks } from './ggml-blocks.ts'
import { type GgufTensor, type GgufValue, writeGguf } from './gguf.ts'

const rowsPerPiece = 1024

const layerNames: ReadonlyArray<readonly [ours: string, theirs: string]> = [
  ['input_layernorm.weight', 'attn_norm.weight'],
  ['self_attn.q_proj.weight', 'attn_q.weight'],
  ['self_attn.q_proj.bias', 'attn_q.bias'],
  ['self_attn.k_proj.weight', 'attn_k.weight'],
  ['self_attn.k_proj.bias', 'attn_k.bias'],
  ['self_attn.v_proj.weight', 'attn_v.weight'],
  ['self_attn.v_proj.bias', 'attn_v.bias'],
  ['self_attn.o_proj.weight', 'attn_output.weight'],
  ['post_attention_layernorm.weight', 'ffn_norm.weight'],
  ['mlp.gate_proj.weight', 'ffn_gate.weight'],
  ['mlp.up_proj.weight', 'ffn_up.weight'],
  ['mlp.down_proj.weight', 'ffn_down.weight'],
]

function tensorNames(config: ModelConfig): ReadonlyArray<readonly [string, string]> {
  const names: Array<readonly [string, string]> = [
    ['model.embed_tokens.weight', 'token_embd.weight'],
    ['model.norm.weight', 'output_norm.weight'],
  ]
  if (!config.tieWordEmbeddings) names.push(['lm_head.weight', 'output.weight'])
  for (let layer = 0; layer < config.numLayers; layer++) {
    for (const [ours, theirs] of layerNames) {
      if (ours.endsWith('.bias') && !config.qkvBias) continue
      names.push([`model.layers.${layer}.${ours}`, `blk.${layer}.${theirs}`])
    }
  }
  return names
}

/** Writes the file unless it is there. */
export function writeGgufModel(checkpointDir: string, type: BlockType, path: string): void {
  if (existsSync(path)) return
  const checkpoint = openCheckpoint(checkpointDir)
  const { config, tensors } = checkpoint
  const files = tensorNames(config).map(([ours, theirs]): GgufTensor => {
    const shape = tensors.shape(ours)
    const dims = shape.toReversed()
    const count = shape.reduce((product, dim) => product * dim, 1)
    if (shape.length === 1) {
      function read() {
        return [new Uint8Array(tensors.read(ours).buffer)]
      }

      return { name: theirs, type: 'F32', dims, bytes: 4 * count, pieces: read }
    }
    const rows = shape[0]!
    return {
      name: theirs,
      type,
      dims,
      bytes: (count / blockSize) * blockBytes[type],
      *pieces() {
        for (let first = 0; first < rows; first += rowsPerPiece) {
          const values = tensors.readRows(ours, first, Math.min(rowsPerPiece, rows - first))
          yield quantizeBlocks(values, type)
        }
      },
    }
  })
  const partial = `${path}.partial`
  writeGguf(partial, modelMetadata(config, readTokens(checkpointDir, config.vocabSize)), files)
  checkpoint.close()
  renameSync(partial, path)
}

function modelMetadata(
  config: ModelConfig,
  tokens: readonly string[],
): Readonly<Record<string, GgufValue>> {
  function u32(value: number) {
    return { type: 'uint32', value } as const
  }

  function f32(value: number) {
    return { type: 'float32', value } as const
  }

  const normal = 1
  const family = config.qkvBias ? 'qwen2' : 'llama'
  return {
    'general.architecture': { type: 'string', value: family },
    'general.name': { type: 'string', value: 'random' },
    'general.quantization_version': u32(2),
    [`${family}.block_count`]: u32(config.numLayers),
    [`${family}.context_length`]: u32(config.maxPosition),
    [`${family}.embedding_length`]: u32(config.hiddenSize),
    [`${family}.feed_forward_length`]: u32(config.intermediateSize),
    [`${family}.attention.head_count`]: u32(config.numHeads),
    [`${family}.attention.head_count_kv`]: u32(config.numKvHeads),
    [`${family}.attention.layer_norm_rms_epsilon`]: f32(config.rmsNormEps),
    [`${family}.rope.freq_base`]: f32(config.ropeTheta),
    [`${family}.rope.dimension_count`]: u32(config.headDim),
    'tokenizer.ggml.model': { type: 'string', value: 'gpt2' },
    'tokenizer.ggml.pre': { type: 'string', value: 'qwen2' },
    'tokenizer.ggml.tokens': { type: 'strings', value: tokens },
    'tokenizer.ggml.token_type': { type: 'int32s', value: tokens.map(() => normal) },
    // Text is never tokenised here; the loader wants one merge.
    'tokenizer.ggml.merges': { type: 'strings', value: ['a b'] },
    'tokenizer.ggml.eos_token_id': u32(tokens.length - 1),
  }
}

function readTokens(dir: string, vocabSize: number): readonly string[] {
  const json = JSON.parse(readFileSync(join(dir, 'tokenizer.json'), 'utf8'))
  const tokens = Array.from({ length: vocabSize }, (_, id) => `<unused ${id}>`)
  for (const [token, id] of Object.entries<number>(json.model.vocab)) tokens[id] = token
  for (const { id, content } of json.added_tokens) tokens[id] = content
  return tokens
}

/** A rank-1 adapter on up_proj, one pair of vectors a layer. */
export function writeGgufAdapter(
  path: string,
  layers: ReadonlyArray<{ readonly a: Float32Array; readonly b: Float32Array }>,
  { alpha, family }: { readonly alpha: number; readonly family: 'qwen2' | 'llama' },
): void {
  const tensors = layers.flatMap(({ a, b }, layer): GgufTensor[] => [
    vector(`blk.${layer}.ffn_up.weight.lora_a`, [a.length, 1], a),
    vector(`blk.${layer}.ffn_up.weight.lora_b`, [1, b.length], b),
  ])
  const metadata = {
    'general.type': { type: 'string', value: 'adapter' },
    'general.architecture': { type: 'string', value: family },
    'adapter.type': { type: 'string', value: 'lora' },
    'adapter.lora.alpha': { type: 'float32', value: alpha },
  } as const
  writeGguf(path, metadata, tensors)
}

function vector(name: string, dims: readonly number[], values: Float32Array): GgufTensor {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  return { name, type: 'F32', dims, bytes: bytes.length, pieces: () => [bytes] }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [dir, type, path] = process.argv.slice(2)
  if (dir === undefined || path === undefined || (type !== 'Q4_0' && type !== 'Q8_0')) {
    console.error('usage: gguf-model <checkpoint folder> <Q4_0|Q8_0> <file.gguf>')
    process.exit(2)
  }
  writeGgufModel(dir, type, path)
}
