// The files that other engines are measured with: GGUF's layout, its block formats, the tokenizer that
// names every id. That llama.cpp loads them is seen when the benchmark runs.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { quantizeBlocks, toHalf } from '../bench/gguf/ggml-blocks.ts'
import { writeGguf } from '../bench/gguf/gguf.ts'
import { configJson, padTokenizer } from '../bench/models/random-checkpoint.ts'
import { fromHalf, roundValues } from '../bench/models/rounded-checkpoint.ts'
import { shapes } from '../bench/models/shapes.ts'
import { randomTokens } from '../bench/peers/protocol.ts'
import { parseModelConfig } from '../server/checkpoint/checkpoint-config.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()

test('every half float is its own nearest half float', () => {
  for (let bits = 0; bits < 65536; bits++) {
    const value = fromHalf(bits)
    if (Number.isNaN(value)) assert.ok(Number.isNaN(fromHalf(toHalf(value))))
    else assert.equal(toHalf(value), bits)
  }
})

test('a number between two half floats goes to the nearer, and to the even one from the middle', () => {
  assert.equal(fromHalf(toHalf(1 + 0.4 / 1024)), 1)
  assert.equal(fromHalf(toHalf(1 + 0.6 / 1024)), 1 + 1 / 1024)
  assert.equal(fromHalf(toHalf(1 + 0.5 / 1024)), 1)
  assert.equal(fromHalf(toHalf(1 + 1.5 / 1024)), 1 + 2 / 1024)
  assert.equal(fromHalf(toHalf(2047.9)), 2048)
  assert.equal(fromHalf(toHalf(65520)), Number.POSITIVE_INFINITY)
})

test('blocks of 4 and 8 bits give values back within half a step', () => {
  const values = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i * 1.7) * (1 + i / 16))
  const q4 = quantizeBlocks(values, 'Q4_0')
  const q8 = quantizeBlocks(values, 'Q8_0')
  assert.equal(q4.length, 2 * 18)
  assert.equal(q8.length, 2 * 34)
  for (let block = 0; block < 2; block++) {
    const scale4 = fromHalf(q4[block * 18]! | (q4[block * 18 + 1]! << 8))
    const scale8 = fromHalf(q8[block * 34]! | (q8[block * 34 + 1]! << 8))
    for (let i = 0; i < 32; i++) {
      const value = values[block * 32 + i]!
      const byte = q4[block * 18 + 2 + (i % 16)]!
      const nibble = i < 16 ? byte & 15 : byte >> 4
      // The far end of the 16 steps is one step short of the value of the other sign.
      assert.ok(Math.abs((nibble - 8) * scale4 - value) <= Math.abs(scale4) * 1.01)
      const int8 = (q8[block * 34 + 2 + i]! << 24) >> 24
      assert.ok(Math.abs(int8 * scale8 - value) <= Math.abs(scale8) * 0.6)
    }
  }
})

test('a GGUF file holds its pairs and infos, and each tensor at the offset that is written', () => {
  const path = join(temp, 'two.gguf')
  const first = Float32Array.of(1, 2, 3)
  const second = quantizeBlocks(new Float32Array(32).fill(0.5), 'Q8_0')
  writeGguf(path, { name: { type: 'string', value: 'é' }, count: { type: 'uint32', value: 7 } }, [
    {
      name: 'a',
      type: 'F32',
      dims: [3],
      bytes: 12,
      pieces: () => [new Uint8Array(first.buffer)],
    },
    { name: 'b', type: 'Q8_0', dims: [32, 1], bytes: 34, pieces: () => [second] },
  ])
  const file = readFileSync(path)
  assert.equal(file.toString('latin1', 0, 4), 'GGUF')
  assert.equal(file.readUInt32LE(4), 3)
  assert.equal(file.readBigUInt64LE(8), 2n)
  assert.equal(file.readBigUInt64LE(16), 2n)
  const expected = [
    ...[4, 0, 0, 0, 0, 0, 0, 0, ...Buffer.from('name'), 8, 0, 0, 0],
    ...[2, 0, 0, 0, 0, 0, 0, 0, ...Buffer.from('é')],
    ...[5, 0, 0, 0, 0, 0, 0, 0, ...Buffer.from('count'), 4, 0, 0, 0, 7, 0, 0, 0],
    ...[1, 0, 0, 0, 0, 0, 0, 0, ...Buffer.from('a'), 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
    ...[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ...[1, 0, 0, 0, 0, 0, 0, 0, ...Buffer.from('b'), 2, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0],
    ...[1, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0],
  ]
  assert.deepEqual([...file.subarray(24, 24 + expected.length)], expected)
  const data = Math.ceil((24 + expected.length) / 32) * 32
  assert.equal(file.readFloatLE(data + 8), 3)
  assert.deepEqual(file.subarray(data + 32, data + 66), Buffer.from(second))
  assert.equal(file.length, data + 96)
})

test('a tensor that brings other bytes than it announced is not written in silence', () => {
  const tensor = { name: 'a', type: 'F32', dims: [3], bytes: 12, pieces: () => [] } as const
  assert.throws(() => writeGguf(join(temp, 'short.gguf'), {}, [tensor]), /a has 0 bytes/)
})

test('a padded tokenizer names every id once and keeps what it had', () => {
  const json = JSON.stringify({
    model: { vocab: { a: 0, b: 2 } },
    added_tokens: [{ id: 3, content: '<end>' }],
  })
  const { model } = JSON.parse(padTokenizer(json, 6))
  assert.equal(model.vocab.b, 2)
  const ids = Object.values<number>(model.vocab).sort()
  assert.deepEqual(ids, [0, 1, 2, 4, 5])
})

test('the small shape is a Llama without biases, the others are Qwen2 with them', () => {
  const found = Object.values(shapes).map((shape) => parseModelConfig(configJson(shape)))
  assert.deepEqual(
    found.map(({ architecture, qkvBias }) => [architecture, qkvBias]),
    [
      ['LlamaForCausalLM', false],
      ['Qwen2ForCausalLM', true],
      ['Qwen2ForCausalLM', true],
      ['Qwen2ForCausalLM', true],
    ],
  )
  assert.ok(found.every(({ vocabSize }) => randomTokens(2000).every((id) => id < vocabSize)))
})

test('rounding keeps what a type holds exactly and moves the rest by half a step at most', () => {
  const values = Float32Array.from({ length: 256 }, (_, i) => Math.sin(i * 1.7) * (1 + i / 64))
  const error = (type: Parameters<typeof roundValues>[2]) => {
    const rounded = roundValues(values, 128, type)
    return Math.max(...rounded.map((value, i) => Math.abs(value - values[i]!)))
  }
  const most = Math.max(...values.map(Math.abs))
  assert.ok(error('int4-128 f16') <= (most / 7) * 0.501)
  assert.ok(error('int4-128 f16') > most / 28)
  assert.ok(error('int8-128 f16') <= (most / 127) * 0.55)
  assert.ok(error('Q8_0') <= (most / 127) * 0.55)
  assert.ok(error('Q4_0') <= most / 8)
  assert.ok(error('bfloat16') <= most / 256)
  assert.equal(error('float32'), 0)
  for (const type of ['int4-128 f16', 'Q8_0', 'bfloat16'] as const) {
    const once = roundValues(values, 128, type)
    const twice = roundValues(once, 128, type)
    assert.ok(twice.every((value, i) => Math.abs(value - once[i]!) <= most / 2000))
  }
})
