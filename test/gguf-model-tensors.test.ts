// Names of Hugging Face, and the rows of q and k in its order.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readGgufWeights } from '../server/gguf-model/tensors.ts'
import { asQwen2, memoryGguf } from './support/gguf-model.ts'

test('tensors get the names of Hugging Face; those without one keep their own', () => {
  const names = ['blk.1.attn_q.weight', 'blk.11.ffn_down.bias', 'output_norm.weight']
  const odd = ['blk.0.attn_qkv.weight', 'output.bias', 'blk.0.attn_q.scale']
  const file = memoryGguf({}, Object.fromEntries([...names, ...odd].map((name) => [name, [8, 16]])))
  const { tensors } = readGgufWeights(file)
  assert.deepEqual(
    [...tensors.keys()],
    [
      'model.embed_tokens.weight',
      'model.layers.1.self_attn.q_proj.weight',
      'model.layers.11.mlp.down_proj.bias',
      'model.norm.weight',
      ...odd,
    ],
  )
})

test('Llama: halves of a head stand apart again, in whole reads and in rows of any cut', () => {
  // Two heads of 8 rows, here of one number each.
  const stored = Float32Array.from({ length: 16 }, (_, row) => row)
  const weights = readGgufWeights(memoryGguf({}, { 'blk.0.attn_q.bias': stored }))
  const name = 'model.layers.0.self_attn.q_proj.bias'
  const whole = [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]
  assert.deepEqual([...weights.read(name)], whole)
  for (let first = 0; first <= 16; first++) {
    for (let count = 0; first + count <= 16; count++) {
      const rows = weights.readRows(name, first, count)
      assert.deepEqual([...rows], whole.slice(first, first + count))
    }
  }
})

test('v, and q of Qwen2, stand as they stood', () => {
  const stored = Float32Array.from({ length: 16 }, (_, row) => row)
  const llama = readGgufWeights(memoryGguf({}, { 'blk.0.attn_v.bias': stored }))
  assert.deepEqual(llama.read('model.layers.0.self_attn.v_proj.bias'), stored)
  const file = memoryGguf(asQwen2, { 'blk.0.attn_q.bias': stored })
  const qwen2 = readGgufWeights(file)
  assert.deepEqual(qwen2.readRows('model.layers.0.self_attn.q_proj.bias', 3, 4), stored.slice(3, 7))
})
