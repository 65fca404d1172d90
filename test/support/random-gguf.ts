// A small GGUF model of random blocks in any formats, written as llama.cpp names its tensors, for tests
// of numbers that need no tokenizer.

import { writeFileSync } from 'node:fs'
import { toHalf } from '../../server/contracts/float16.ts'
import { blockFormats } from '../../server/gguf/block-formats.ts'
import {
  ggufBytes,
  info,
  kinds,
  list,
  listKind,
  pair,
  stringKind,
  text,
  u32,
} from './gguf-bytes.ts'
import { createRandomNumbers, normal } from './random-numbers.ts'

export type RandomType = keyof typeof scaleOf

/**
 * d for values of standard deviation 1, and the half floats that a block begins with: multiples of d.
 * The mean of the codes times d is what a min takes off.
 */
const scaleOf = {
  Q4_0: { d: 1 / 4.6, halves: [1] },
  Q4_1: { d: 1 / 4.6, halves: [1, -7.5] },
  Q5_0: { d: 1 / 9.2, halves: [1] },
  Q5_1: { d: 1 / 9.2, halves: [1, -15.5] },
  Q8_0: { d: 1 / 74, halves: [1] },
  IQ4_NL: { d: 1 / 72, halves: [1] },
  IQ4_XS: { d: 1 / (18 * 72), halves: [1] },
  Q4_K: { d: 1 / (32 * 6), halves: [1, 7.5] },
  Q5_K: { d: 1 / (32 * 12), halves: [1, 15.5] },
  Q6_K: { d: 1 / (74 * 18), halves: [] },
  F16: { d: 1, halves: [] },
} as const satisfies Record<string, { d: number; halves: readonly number[] }>

/** Whole blocks of random integers; neighbours differ in their scales, and what is added in its size. */
export function randomBlocks(type: RandomType, values: number, deviation: number, seed: number) {
  const { values: perBlock, bytes } = blockFormats[type]
  const { d, halves } = scaleOf[type]
  const random = createRandomNumbers(seed)
  const numBlocks = values / perBlock
  const data = Buffer.alloc(numBlocks * bytes)
  for (let b = 0; b < numBlocks; b++) {
    const at = b * bytes
    for (let i = 0; i < bytes; i++) data[at + i] = random() * 256
    const scale = d * deviation * (0.5 + random())
    const vary = () => 0.8 + 0.4 * random()
    for (const [i, factor] of halves.entries()) {
      data.writeUInt16LE(toHalf(scale * factor * vary()), at + 2 * i)
    }
    if (type === 'F16') data.writeUInt16LE(toHalf(deviation * normal(random)), at)
    // The one format here whose scale is at the end.
    if (type === 'Q6_K') data.writeUInt16LE(toHalf(scale), at + bytes - 2)
  }
  return data
}

export interface RandomGguf {
  readonly family: 'llama' | 'qwen2'
  readonly hidden: number
  readonly intermediate: number
  readonly isTied: boolean
  /** The format of a matrix, by llama.cpp's name without the layer: attn_q, token_embd … */
  readonly typeOf: (name: string) => RandomType
}

const numLayers = 2
const vocabSize = 160
const headDim = 32

/** Logits come out with a standard deviation of about 1. */
export function writeRandomGguf(path: string, model: RandomGguf): string {
  const { family, hidden, intermediate, isTied, typeOf } = model
  const heads = hidden / headDim
  const infos: Buffer[] = []
  const pieces: Buffer[] = []
  let offset = 0

  function add(name: string, dims: readonly number[], type: number, data: Buffer): void {
    infos.push(info({ name, dims, type, offset }))
    const padding = Buffer.alloc(Math.ceil(data.length / 32) * 32 - data.length)
    pieces.push(data, padding)
    offset += data.length + padding.length
  }

  function matrix(name: string, outer: number, inner: number): void {
    const type = typeOf(name.replace(/^blk\.\d+\./, ''))
    const data = randomBlocks(type, outer * inner, 1 / Math.sqrt(inner), infos.length + 1)
    add(`${name}.weight`, [inner, outer], blockFormats[type].id, data)
  }

  function vector(name: string, length: number, middle: number): void {
    const random = createRandomNumbers(infos.length + 1)
    const values = Float32Array.from({ length }, () => middle + 0.1 * normal(random))
    add(name, [length], blockFormats.F32.id, Buffer.from(values.buffer))
  }

  matrix('token_embd', vocabSize, hidden)
  for (let layer = 0; layer < numLayers; layer++) {
    const at = `blk.${layer}`
    const sizes = { q: hidden, k: hidden / 2, v: hidden / 2 }
    vector(`${at}.attn_norm.weight`, hidden, 1)
    for (const [name, outer] of Object.entries(sizes)) {
      matrix(`${at}.attn_${name}`, outer, hidden)
      if (family === 'qwen2') vector(`${at}.attn_${name}.bias`, outer, 0)
    }
    matrix(`${at}.attn_output`, hidden, hidden)
    vector(`${at}.ffn_norm.weight`, hidden, 1)
    matrix(`${at}.ffn_gate`, intermediate, hidden)
    matrix(`${at}.ffn_up`, intermediate, hidden)
    matrix(`${at}.ffn_down`, hidden, intermediate)
  }
  vector('output_norm.weight', hidden, 1)
  if (!isTied) matrix('output', vocabSize, hidden)

  const count = (key: string, value: number) => pair(`${family}.${key}`, kinds.uint32, u32(value))
  const name = (key: string, value: string) => pair(key, stringKind, text(value))
  const eps = Buffer.alloc(4)
  eps.writeFloatLE(1e-6)
  const tokens = Array.from({ length: vocabSize }, (_, id) => text(`t${id}`))
  const pairs = [
    name('general.architecture', family),
    count('block_count', numLayers),
    count('context_length', 256),
    count('embedding_length', hidden),
    count('feed_forward_length', intermediate),
    count('attention.head_count', heads),
    count('attention.head_count_kv', heads / 2),
    pair(`${family}.attention.layer_norm_rms_epsilon`, kinds.float32, eps),
    name('tokenizer.ggml.model', 'gpt2'),
    pair('tokenizer.ggml.tokens', listKind, list(stringKind, vocabSize, ...tokens)),
    pair('tokenizer.ggml.merges', listKind, list(stringKind, 1, text('t 1'))),
  ]
  writeFileSync(path, ggufBytes({ pairs, infos, data: Buffer.concat(pieces) }))
  return path
}
