// Which weights a checkpoint is served with, from what was asked and how large it is.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { formatOf, resolveWeights } from '../server/engine/weights.ts'
import { cpuDevice } from '../server/runtime/device.ts'

const small = { numParameters: 2e6, keepsNumbers: false }
const large = { numParameters: 5e8, keepsNumbers: false }
const open = { weightBlock: null, weightZeroPoints: null }

describe('the weight format', () => {
  it('is float32 for small models and int4 for others, unless asked for', () => {
    assert.equal(resolveWeights('auto', small, cpuDevice), 'fp32')
    assert.equal(resolveWeights('auto', large, cpuDevice), 'int4')
    assert.equal(resolveWeights('int8', small, cpuDevice), 'int8')
    assert.deepEqual(formatOf('fp32', open), { kind: 'fp32' })
  })

  it('is that of a GGUF file where it would be int4 and the kernels can keep its numbers', () => {
    const keepsNumbers = true
    assert.equal(resolveWeights('auto', { ...large, keepsNumbers }, cpuDevice), 'stored')
    assert.equal(resolveWeights('auto', { ...small, keepsNumbers }, cpuDevice), 'fp32')
    assert.equal(resolveWeights('int4', { ...large, keepsNumbers }, cpuDevice), 'int4')
    assert.deepEqual(formatOf('stored', open), { kind: 'stored' })
  })

  it('takes block and zero points from the flags', () => {
    const format = formatOf('int4', { weightBlock: 32, weightZeroPoints: true })
    assert.deepEqual(format, {
      kind: 'quantized',
      bits: 4,
      block: 32,
      zeroPoints: true,
      searchScales: false,
    })
    const int8 = formatOf('int8', { weightBlock: 64, weightZeroPoints: null })
    assert.ok(int8.kind === 'quantized' && int8.bits === 8 && int8.block === 64)
    assert.equal(int8.searchScales, false)
    const around = formatOf('int4', { weightBlock: 32, weightZeroPoints: false })
    assert.ok(around.kind === 'quantized' && around.searchScales)
  })

  it('refuses what float32 has no use for', () => {
    assert.throws(() => formatOf('fp32', { ...open, weightBlock: 64 }), {
      code: 'invalid_config',
      message: /^--weight-block is for --weights int8 and int4/,
    })
    assert.throws(
      () => formatOf('stored', { ...open, weightZeroPoints: false }),
      /--weight-zero-points is for/,
    )
    assert.throws(() => resolveWeights('fp16', small, cpuDevice), /--weights fp16 needs a GPU/)
  })
})
