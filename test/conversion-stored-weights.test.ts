// `--weights stored`: a GGUF file's own numbers behind our own kernels, against a float32 graph of the
// same file. What is left between them is the kernels' rounding of activations to 8 bits, as in
// quantized.test.ts: 0.03 to 0.06 standard deviations of the logits.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { type Checkpoint, openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import { finiteTensors } from '../server/checkpoint/finite-tensors.ts'
import { cpuTarget, type Kernels, type WeightFormat } from '../server/contracts/checkpoint.ts'
import type { Device } from '../server/contracts/engine.ts'
import { convertedBytes } from '../server/conversion/convert.ts'
import { isMostlyStored, requireStored } from '../server/conversion/stored-weights.ts'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { hasCode } from './support/errors.ts'
import { writeRandomCheckpoint } from './support/random-checkpoint.ts'
import { type RandomGguf, type RandomType, writeRandomGguf } from './support/random-gguf.ts'
import { logitsInTwoRows } from './support/served-model.ts'
import { createTempFolder } from './support/temp-folder.ts'

const skip = ownKernels() === null && 'not built for this machine'
const tolerance = 0.1
/** Where matrices of other formats are rounded to int8, too. */
const roundedTolerance = 0.25
const temp = createTempFolder()
const adapters = join(temp, 'adapters')
mkdirSync(adapters)

const small = { hidden: 64, intermediate: 96 }
/** Superblocks have 256 values. */
const wide = { hidden: 256, intermediate: 256 }
const byName =
  (types: Readonly<Record<string, RandomType>>, rest: RandomType) =>
  (name: string): RandomType =>
    types[name] ?? rest

const models: Readonly<Record<string, RandomGguf>> = {
  'Llama, Q4_1 and a tied Q8_0 embedding': {
    ...small,
    family: 'llama',
    isTied: true,
    typeOf: byName({ token_embd: 'Q8_0' }, 'Q4_1'),
  },
  'Qwen2, Q4_0, tied': { ...small, family: 'qwen2', isTied: true, typeOf: () => 'Q4_0' },
  'Llama, Q8_0': { ...small, family: 'llama', isTied: false, typeOf: () => 'Q8_0' },
  'Qwen2, Q4_1 throughout, tied': { ...small, family: 'qwen2', isTied: true, typeOf: () => 'Q4_1' },
  'Llama, Q5_1 throughout': { ...small, family: 'llama', isTied: false, typeOf: () => 'Q5_1' },
  'Llama, Q4_K with Q6_K and F16 among them': {
    ...wide,
    family: 'llama',
    isTied: false,
    typeOf: byName({ attn_v: 'Q6_K', ffn_down: 'Q6_K', output: 'Q6_K', token_embd: 'F16' }, 'Q4_K'),
  },
  'Qwen2, a format of its own in each': {
    ...wide,
    family: 'qwen2',
    isTied: true,
    typeOf: byName(
      { attn_q: 'Q4_0', attn_k: 'Q4_K', attn_v: 'Q5_0', ffn_up: 'IQ4_XS', ffn_down: 'Q5_K' },
      'IQ4_NL',
    ),
  },
}

const prompt = [3, 17, 150, 45, 101, 9, 88, 159]

function logitsOf(checkpoint: string, format: WeightFormat) {
  return logitsInTwoRows({ checkpoint, adapters, format, kernels: 'own', capacity: 32 }, prompt)
}

/** The largest difference of two models' logits, in standard deviations of the first's. */
function difference(exact: readonly number[], got: readonly number[]): number {
  const size = Math.sqrt(exact.reduce((sum, value) => sum + value * value, 0) / exact.length)
  return Math.max(...exact.map((value, i) => Math.abs(value - got[i]!))) / size
}

const stored = { kind: 'stored' } as const
const write = (name: string, model: RandomGguf) =>
  writeRandomGguf(join(temp, `${name.replaceAll(/\W+/g, '-')}.gguf`), model)

describe('stored weights', { skip }, () => {
  for (const [name, model] of Object.entries(models)) {
    it(`${name}: the logits are those of the file's numbers`, async (t) => {
      const path = write(name, model)
      const exact = await logitsOf(path, { kind: 'fp32' })
      const apart = difference(exact, await logitsOf(path, stored))
      t.diagnostic(`|Δ logit| ${apart.toFixed(3)} sd`)
      const most = name.includes('Q6_K') ? roundedTolerance : tolerance
      assert.ok(apart <= most, `|Δ logit| is ${apart} standard deviations`)
    })
  }

  it('a min of another block would be seen', async () => {
    const path = write('as it is', models['Qwen2, Q4_1 throughout, tied']!)
    const exact = await logitsOf(path, { kind: 'fp32' })
    const bytes = readFileSync(path)
    // The last matrix ends the file, before two norms: every min of it takes its neighbour's place.
    const end = bytes.length - 2 * small.hidden * 4
    for (let at = end - (small.hidden * small.intermediate * 20) / 32; at < end - 20; at += 20) {
      bytes.copy(bytes, at + 2, at + 22, at + 24)
    }
    writeFileSync(path, bytes)
    const apart = difference(exact, await logitsOf(path, stored))
    assert.ok(apart > 2 * tolerance, `|Δ logit| is only ${apart} standard deviations`)
  })
})

const tied = models['Llama, Q4_1 and a tied Q8_0 embedding']!

function withCheckpoint<T>(path: string, use: (checkpoint: Checkpoint) => T): T {
  const checkpoint = openCheckpoint(path)
  try {
    return use(checkpoint)
  } finally {
    checkpoint.close()
  }
}

describe('what stored weights need', () => {
  const asked = (path: string, kernels: Kernels | null = 'own', device: Device = 'cpu') =>
    withCheckpoint(path, (checkpoint) => requireStored(checkpoint, { name: device }, kernels))

  it('is a GGUF file and our own kernels; each error has a remedy', () => {
    const path = write('needs', tied)
    assert.equal(asked(path), null)
    const kernels = hasCode(
      'invalid_config',
      /needs our own kernels .*use --kernels own.* or --weights int8\.$/,
    )
    assert.throws(() => asked(path, 'onnxruntime'), kernels)
    const device = hasCode(
      'invalid_config',
      /is for --device cpu and this is webgpu; use fp16, int8 or int4\.$/,
    )
    assert.throws(() => asked(path, null, 'webgpu'), device)
    const folder = writeRandomCheckpoint(join(temp, 'folder'), 'llama', 1)
    assert.throws(
      () => asked(folder),
      hasCode('invalid_config', /is for a GGUF file .* use fp32, int8 or int4\.$/),
    )
    const halves = write('halves', { ...tied, typeOf: () => 'F16' })
    const none = hasCode(
      'invalid_config',
      /keeps matrices of Q4_0, .* this file has 15 matrices of F16; use fp32/,
    )
    assert.throws(() => asked(halves), none)
  })

  it('is, for auto, that most weights keep their numbers', () => {
    const isMost = (typeOf: RandomGguf['typeOf']) =>
      withCheckpoint(
        write('most', { ...wide, family: 'llama', isTied: false, typeOf }),
        isMostlyStored,
      )
    assert.equal(isMost(byName({ attn_v: 'Q6_K', output: 'Q6_K' }, 'Q4_K')), true)
    assert.equal(isMost(byName({ token_embd: 'Q4_K' }, 'Q6_K')), false)
    const folder = writeRandomCheckpoint(join(temp, 'floats'), 'llama', 1)
    assert.equal(withCheckpoint(folder, isMostlyStored), false)
  })

  it('says in one line which matrices are rounded once more', () => {
    const path = write('line', models['Llama, Q4_K with Q6_K and F16 among them']!)
    assert.equal(
      asked(path),
      "--weights stored keeps the file's numbers in 10 matrices of Q4_K; its kernels cannot hold those " +
        'of 5 matrices of Q6_K, 1 of F16, which are rounded to int8 in blocks of 32.',
    )
  })

  it('is a finite scale and min in each block', () => {
    const path = write('infinite', tied)
    const bytes = readFileSync(path)
    const end = bytes.length - 2 * tied.hidden * 4 // Two norms' worth of bytes after the last matrix.
    withCheckpoint(path, ({ tensors }) => {
      const name = 'model.layers.1.mlp.down_proj.weight'
      const whole = finiteTensors(tensors).stored!(name).readRows(0, tied.hidden)
      const at = bytes.indexOf(whole)
      assert.ok(at > 0 && at < end)
      bytes.writeUInt16LE(0x7c00, at + 20 * 3 * 5 + 2) // The min of the first block of row 5.
      writeFileSync(path, bytes)
      assert.equal(finiteTensors(tensors).stored!(name).readRows(0, 5).length, 5 * 3 * 20)
      assert.throws(
        () => finiteTensors(tensors).stored!(name).readRows(4, 3),
        hasCode(
          'invalid_checkpoint',
          /down_proj.weight holds a block with Infinity at element 480;/,
        ),
      )
    })
  })
})

describe('the size of stored weights', () => {
  const size = (model: RandomGguf) =>
    withCheckpoint(write('size', model), (checkpoint) =>
      convertedBytes({ checkpoint, maxContext: 16, format: stored, target: cpuTarget, sites: [] }),
    )

  it('counts a tied embedding once', () => {
    const [data, scales] = [160 * tied.hidden, (160 * tied.hidden * 4) / 32]
    const untied = size({ ...tied, isTied: false, typeOf: () => 'Q8_0' })
    const page = 4096
    const pages = Math.ceil(data / page) + Math.ceil(scales / page)
    assert.equal(untied - size({ ...tied, typeOf: () => 'Q8_0' }), pages * page)
  })
})
