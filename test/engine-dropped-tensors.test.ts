// A tensor that is not used is told of where it is not what is used instead.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TensorSource } from '../server/contracts/checkpoint.ts'
import { droppedTensors } from '../server/model/dropped-tensors.ts'
import { pseudoRandom, smallModel } from './support/tensor-files.ts'

const head = 'lm_head.weight'
const embedding = 'model.embed_tokens.weight'
const columns = 4

function sourceOf(tensors: Readonly<Record<string, Float32Array>>): TensorSource {
  const read = (name: string) => tensors[name]!
  return {
    has: (name) => name in tensors,
    shape: (name) => [read(name).length / columns, columns],
    read,
    readRows: (name, first, count) => read(name).slice(first * columns, (first + count) * columns),
  }
}

const rows = 3000
const values = pseudoRandom(rows * columns, 5)
const changed = (at: number) => values.map((value, i) => (i === at ? value + 1e-6 : value))
const tied = { ...smallModel, tieWordEmbeddings: true }

test('a head beside tied embeddings is told of where it differs, in whatever row', () => {
  for (const at of [0, 1500 * columns, rows * columns - 1]) {
    const tensors = sourceOf({ [head]: changed(at), [embedding]: values })
    const [notice, ...others] = droppedTensors({ config: tied, tensors })
    assert.match(notice!, /lm_head\.weight differs .*tie_word_embeddings/)
    assert.deepEqual(others, [])
  }
  const shorter = sourceOf({ [head]: values.slice(columns), [embedding]: values })
  assert.equal(droppedTensors({ config: tied, tensors: shorter }).length, 1)
})

test('an equal head, none, and one that is used are not told of', () => {
  const same = sourceOf({ [head]: values.slice(), [embedding]: values })
  assert.deepEqual(droppedTensors({ config: tied, tensors: same }), [])
  const none = sourceOf({ [embedding]: values })
  assert.deepEqual(droppedTensors({ config: tied, tensors: none }), [])
  const used = sourceOf({ [head]: changed(0), [embedding]: values })
  const config = { ...tied, tieWordEmbeddings: false }
  assert.deepEqual(droppedTensors({ config, tensors: used }), [])
})

test('frequencies in the file are told of where config.json says others', () => {
  const name = 'model.layers.1.self_attn.rotary_emb.inv_freq'
  const noticesOf = (frequencies: readonly number[]) => {
    const tensors = sourceOf({ [embedding]: values, [name]: Float32Array.from(frequencies) })
    return droppedTensors({ config: { ...tied, headDim: 4, ropeTheta: 10_000 }, tensors })
  }
  assert.deepEqual(noticesOf([1, 0.01]), [])
  assert.deepEqual(noticesOf([1, 0.01003]), [])
  assert.match(noticesOf([1, 0.001])[0]!, /layers\.1.*inv_freq differs/)
  assert.equal(noticesOf([1]).length, 1)
})
