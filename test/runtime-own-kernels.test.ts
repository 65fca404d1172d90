// Our own operators where the other suites do not reach: long contexts, which attention goes over in
// chunks; many heads on one key; how the library is built; and who is chosen.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import type { Kernels } from '../server/contracts/checkpoint.ts'
import type { KvCacheDtype } from '../server/contracts/engine.ts'
import { resolveKernels } from '../server/engine/weights.ts'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { hasCode } from './support/errors.ts'
import { writeRandomCheckpoint } from './support/random-checkpoint.ts'
import { root } from './support/root.ts'
import { openServedModel } from './support/served-model.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
const adapters = join(temp, 'adapters')
mkdirSync(adapters)
const skip = ownKernels() === null && 'not built for this machine'
/** Sums of float32 in another order; logits are of the order of 1. */
const tolerance = 1e-3
/** Keys and values that are each off by at most 2⁻¹¹ of themselves. */
const halfTolerance = 4e-3

const shapes = {
  'three heads a key': { num_attention_heads: 6, num_key_value_heads: 2, head_dim: 32 },
  'ten heads on one key': { num_attention_heads: 10, num_key_value_heads: 1, head_dim: 48 },
  'nine heads on one key': { num_attention_heads: 9, num_key_value_heads: 1, head_dim: 32 },
  'heads too wide to be turned': { num_attention_heads: 2, num_key_value_heads: 1, head_dim: 144 },
  'a key for each head': { num_attention_heads: 4, num_key_value_heads: 4, head_dim: 16 },
}

const write = (name: string, heads: object): string =>
  writeRandomCheckpoint(join(temp, name.replaceAll(' ', '-')), 'llama', 5, {
    ...heads,
    max_position_embeddings: 2048,
  })

const prompt = Array.from({ length: 1100 }, (_, i) => (i * i * 7 + i * 13) % 160)
/** Of chunks of attention: within the first, at its end, just beyond, within the third. */
const lengths = [500, 512, 513, 1100]

/** Logits of the last token of each length; `alone`: that token by itself, in a decode step. */
async function lastLogits(
  checkpoint: string,
  kernels: Kernels,
  alone: boolean,
  kvCacheDtype: KvCacheDtype = 'fp32',
  cut = 100,
) {
  const shape = { rows: 1, capacity: 1280, threads: 2 }
  const options = { checkpoint, adapters, kernels, kvCacheDtype, ...shape }
  const model = await openServedModel(options)
  try {
    const found: number[] = []
    for (const length of lengths) {
      const whole = alone ? length - 1 : length
      let logits: Float32Array = new Float32Array()
      for (let past = 0; past < whole; past += cut) {
        const tokens = prompt.slice(past, Math.min(past + cut, whole))
        logits = await model.runner.prefill({ row: 0, tokens, past, components: [] })
      }
      if (alone) {
        const token = prompt[length - 1] as number
        logits = await model.runner.decode([{ token, past: length - 1, components: [] }])
      }
      found.push(...logits)
    }
    return found
  } finally {
    model.close()
  }
}

const largest = (x: readonly number[], y: readonly number[]) =>
  Math.max(...x.map((value, i) => Math.abs(value - (y[i] as number))))

describe('own attention over long contexts', { skip }, () => {
  for (const [name, heads] of Object.entries(shapes)) {
    it(`${name}: equals ONNX Runtime's, and a lone token equals itself in a chunk`, async () => {
      const checkpoint = write(name, heads)
      const own = await lastLogits(checkpoint, 'own', false)
      const theirs = await lastLogits(checkpoint, 'onnxruntime', false)
      assert.ok(own.every(Number.isFinite))
      assert.ok(Math.max(...own) - Math.min(...own) > 1, 'the logits are all alike')
      const difference = largest(own, theirs)
      assert.ok(difference <= tolerance, `|Δ logit| is ${difference}`)
      assert.deepEqual(await lastLogits(checkpoint, 'own', true), own)
    })
  }

  for (const [name, heads] of Object.entries(shapes)) {
    it(`${name}: keys and values of 16 bits are as good as their rounding`, async () => {
      const checkpoint = write(`halves of ${name}`, heads)
      const halves = await lastLogits(checkpoint, 'own', false, 'fp16')
      const difference = largest(halves, await lastLogits(checkpoint, 'own', false))
      assert.ok(difference > 0, 'nothing was rounded')
      assert.ok(difference <= halfTolerance, `|Δ logit| is ${difference}`)
      assert.deepEqual(await lastLogits(checkpoint, 'own', true, 'fp16'), halves)
    })
  }

  // Tokens go over the keys in twos; an odd cut makes other twos.
  for (const [name, heads] of Object.entries(shapes)) {
    it(`${name}: a prompt is the same to the bit wherever it is cut`, async () => {
      const checkpoint = write(`cuts of ${name}`, heads)
      const even = await lastLogits(checkpoint, 'own', false, 'fp16')
      assert.deepEqual(await lastLogits(checkpoint, 'own', false, 'fp16', 33), even)
      assert.deepEqual(await lastLogits(checkpoint, 'own', false, 'fp16', 1), even)
    })
  }

  it('is a test that can fail: earlier tokens move the logits', async () => {
    const checkpoint = write('moved', shapes['three heads a key'])
    const own = await lastLogits(checkpoint, 'own', false)
    prompt[3] = (prompt[3] as number) + 1
    try {
      assert.ok(largest(own, await lastLogits(checkpoint, 'own', false)) > 10 * tolerance)
    } finally {
      prompt[3] = (prompt[3] as number) - 1
    }
  })
})

describe('the library of own kernels', () => {
  const script = join(root, 'server', 'native', 'build.mjs')
  /** What buildKernels says, with `cc` as the compiler. */
  const build = (output: string, cc: string): string | null => {
    const code = `const { buildKernels } = await import(${JSON.stringify(pathToFileURL(script).href)})
      console.log(JSON.stringify(buildKernels(${JSON.stringify(output)})))`
    const env = { ...process.env, CC: cc }
    const args = ['--input-type=module', '-e', code]
    return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8', env }))
  }
  const isX64 = process.arch === 'x64' && process.platform !== 'win32'

  it('is there on every machine that must run all tests', () => {
    if (process.env.DUTYFREE_REQUIRE_ALL && isX64) assert.notEqual(ownKernels(), null)
  })

  it('says that there is no compiler, and which were looked for', { skip: !isX64 }, () => {
    const output = join(temp, 'no-compiler', 'kernels.so')
    assert.match(build(output, 'no-such-cc') ?? '', /^no C compiler was found \(no-such-cc\)$/)
    assert.equal(existsSync(output), false)
  })

  it('says what the compiler said, and leaves no library', { skip: !isX64 }, () => {
    const cc = join(temp, 'broken-cc')
    writeFileSync(cc, '#!/bin/sh\necho "broken: cannot compile" >&2\nexit 1\n')
    chmodSync(cc, 0o755)
    const output = join(temp, 'broken', 'kernels.so')
    mkdirSync(dirname(output))
    writeFileSync(output, 'of older sources')
    assert.match(build(output, cc) ?? '', /broken-cc failed: broken: cannot compile$/)
    assert.equal(existsSync(output), false)
  })
})

describe('kernels', () => {
  const cpu = { name: 'cpu' } as const
  const gpu = { name: 'webgpu' } as const

  it('are our own where they can run, unless asked otherwise', () => {
    assert.equal(resolveKernels('auto', cpu, true), 'own')
    assert.equal(resolveKernels('auto', cpu, false), 'onnxruntime')
    assert.equal(resolveKernels('onnxruntime', cpu, true), 'onnxruntime')
    assert.equal(resolveKernels('auto', gpu, true), null)
  })

  it('that cannot run are refused, with what is missing', () => {
    const missing = hasCode('invalid_config', /--kernels own needs .*install a C compiler/)
    assert.throws(() => resolveKernels('own', cpu, false), missing)
    const onGpu = hasCode('invalid_config', /--kernels own is for --device cpu and this is webgpu/)
    assert.throws(() => resolveKernels('own', gpu, true), onGpu)
  })
})
