// Writes a Qwen2 or Llama checkpoint folder of a real shape with random bfloat16 weights.
//   node dist/bench/models/random-checkpoint.js qwen2.5-0.5b runs/random-0.5b

import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Shape, type ShapeName, shapes } from './shapes.ts'

const copiedFiles = ['tokenizer_config.json', 'generation_config.json']

/** Tensor name → shape, in file order. */
function tensorsOf(shape: Shape): Map<string, readonly number[]> {
  const { hidden, intermediate, vocab } = shape
  const headDim = hidden / shape.heads
  const kv = shape.kvHeads * headDim
  const tensors = new Map<string, readonly number[]>()
  tensors.set('model.embed_tokens.weight', [vocab, hidden])
  for (let layer = 0; layer < shape.layers; layer++) {
    const prefix = `model.layers.${layer}`
    tensors.set(`${prefix}.input_layernorm.weight`, [hidden])
    for (const [name, rows] of [
      ['q', hidden],
      ['k', kv],
      ['v', kv],
    ] as const) {
      tensors.set(`${prefix}.self_attn.${name}_proj.weight`, [rows, hidden])
      if (shape.family === 'qwen2') tensors.set(`${prefix}.self_attn.${name}_proj.bias`, [rows])
    }
    tensors.set(`${prefix}.self_attn.o_proj.weight`, [hidden, hidden])
    tensors.set(`${prefix}.post_attention_layernorm.weight`, [hidden])
    tensors.set(`${prefix}.mlp.gate_proj.weight`, [intermediate, hidden])
    tensors.set(`${prefix}.mlp.up_proj.weight`, [intermediate, hidden])
    tensors.set(`${prefix}.mlp.down_proj.weight`, [hidden, intermediate])
  }
  tensors.set('model.norm.weight', [hidden])
  if (!shape.tied) tensors.set('lm_head.weight', [vocab, hidden])
  return tensors
}

/** Normal noise of standard deviation 0.02 as bfloat16, long enough not to repeat within a row. */
function noisePool(): Uint16Array {
  const pool = new Uint16Array(1 << 22)
  const value = new Float32Array(1)
  const word = new Uint32Array(value.buffer)
  let state = 0x2545f491
  function uniform() {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return ((state >>> 0) + 0.5) / 2 ** 32
  }
  for (let i = 0; i < pool.length; i++) {
    const radius = Math.sqrt(-2 * Math.log(uniform()))
    value[0] = 0.02 * radius * Math.cos(2 * Math.PI * uniform())
    pool[i] = word[0]! >>> 16
  }
  return pool
}

/** config.json of a checkpoint of this shape. */
export function configJson(shape: Shape): Readonly<Record<string, unknown>> {
  return {
    architectures: [shape.family === 'qwen2' ? 'Qwen2ForCausalLM' : 'LlamaForCausalLM'],
    model_type: shape.family,
    hidden_act: 'silu',
    hidden_size: shape.hidden,
    intermediate_size: shape.intermediate,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    vocab_size: shape.vocab,
    max_position_embeddings: 32768,
    rope_theta: shape.ropeTheta,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: shape.tied,
    torch_dtype: 'bfloat16',
  }
}

/** Every id that the model can choose gets a text of its own, as in a real checkpoint. */
export function padTokenizer(json: string, vocab: number): string {
  const tokenizer = JSON.parse(json)
  const taken = new Set<number>(Object.values(tokenizer.model.vocab))
  for (const { id } of tokenizer.added_tokens) taken.add(id)
  for (let id = 0; id < vocab; id++) {
    if (!taken.has(id)) tokenizer.model.vocab[`\u0120w${id.toString(36)}`] = id
  }
  return JSON.stringify(tokenizer)
}

/** Makes the folder unless it is there; `tokenizerFrom` lends its tokenizer. */
export function writeRandomCheckpoint(name: ShapeName, folder: string, tokenizerFrom: string) {
  if (existsSync(join(folder, 'model.safetensors'))) return
  const shape: Shape = shapes[name]
  mkdirSync(folder, { recursive: true })
  const tensors = tensorsOf(shape)
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } }
  let end = 0
  for (const [tensor, dims] of tensors) {
    const bytes = 2 * dims.reduce((product, dim) => product * dim, 1)
    header[tensor] = { dtype: 'BF16', shape: dims, data_offsets: [end, end + bytes] }
    end += bytes
  }
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  const partial = join(folder, 'model.safetensors.partial')
  const file = openSync(partial, 'w')
  writeSync(file, length)
  writeSync(file, json)
  const pool = noisePool()
  const ones = new Uint16Array(shape.hidden).fill(0x3f80)
  let turn = 0
  for (const [tensor, dims] of tensors) {
    let left = dims.reduce((product, dim) => product * dim, 1)
    if (tensor.endsWith('norm.weight')) {
      writeSync(file, new Uint8Array(ones.buffer))
      continue
    }
    while (left > 0) {
      turn = (turn * 5 + 977) % 4096
      const count = Math.min(left, pool.length - turn)
      writeSync(file, new Uint8Array(pool.buffer, 2 * turn, 2 * count))
      left -= count
    }
  }
  closeSync(file)
  writeFileSync(join(folder, 'config.json'), JSON.stringify(configJson(shape)))
  const tokenizer = readFileSync(join(tokenizerFrom, 'tokenizer.json'), 'utf8')
  writeFileSync(join(folder, 'tokenizer.json'), padTokenizer(tokenizer, shape.vocab))
  for (const name of copiedFiles) copyFileSync(join(tokenizerFrom, name), join(folder, name))
  renameSync(partial, join(folder, 'model.safetensors'))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [name, folder] = process.argv.slice(2)
  if (name === undefined || !(name in shapes) || folder === undefined) {
    console.error(`usage: random-checkpoint <${Object.keys(shapes).join('|')}> <folder>`)
    process.exit(2)
  }
  writeRandomCheckpoint(name as ShapeName, folder, 'models/tiny-reasoner')
}
