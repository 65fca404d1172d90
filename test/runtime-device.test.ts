// Devices that are not there, and what is said about them; the halves that GPUs compute in.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, it } from 'node:test'
import { toHalf, toHalves } from '../server/contracts/float16.ts'
import { formatOf, resolveWeights, targetOf } from '../server/engine/weights.ts'
import { guardRunner } from '../server/model/guarded-runner.ts'
import type { Runner } from '../server/model/runner.ts'
import { relativeDifference, requireEqual } from '../server/model/self-test.ts'
import { cpuDevice, openDevice } from '../server/runtime/device.ts'
import { packagedLibrary } from '../server/runtime/runtime-library.ts'
import { hasCode } from './support/errors.ts'
import { createRandomNumbers, normal } from './support/random-numbers.ts'
import { root } from './support/root.ts'
import { openServedModel } from './support/served-model.ts'
import { createTempFolder } from './support/temp-folder.ts'

const folder = createTempFolder()
const isLinux = process.platform === 'linux'

describe('--device webgpu', () => {
  it('is refused in one line where there is no driver', {
    skip: !isLinux && 'Vulkan is for Linux',
  }, () => {
    const main = join(root, 'dist', 'server', 'main.js')
    const args = [main, '--port', '0', '--log-level', 'silent', '--device', 'webgpu']
    const env = { ...process.env, VK_ICD_FILENAMES: join(folder, 'none.json') }
    const { status, stderr } = spawnSync(process.execPath, args, {
      cwd: root,
      env,
      encoding: 'utf8',
    })
    assert.equal(status, 1)
    // What comes before is the Vulkan loader's own.
    const line = stderr.trimEnd().split('\n').at(-1) ?? ''
    assert.match(
      line,
      /^dutyfree: --device webgpu found no GPU .* install libvulkan1 .* --device cpu/,
    )
  })
})

describe('--device cuda', () => {
  it('says where its library was looked for, and how to get it', () => {
    const dir = join(folder, 'without-cuda')
    mkdirSync(dir)
    symlinkSync(packagedLibrary(), join(dir, basename(packagedLibrary())))
    assert.throws(
      () => openDevice('cuda', dir),
      hasCode('device_unavailable', /not in .*without-cuda.*ONNXRUNTIME_NODE_INSTALL=cuda12/),
    )
  })

  it('needs a folder that holds an ONNX Runtime', () => {
    assert.throws(
      () => openDevice('cuda', join(folder, 'nowhere')),
      hasCode('invalid_config', /--onnxruntime must be a folder/),
    )
  })

  it('passes on what ONNX Runtime says when it cannot be opened', {
    skip: !isLinux && 'names of files',
  }, () => {
    // A process of its own: a process has one ONNX Runtime.
    const dir = join(folder, 'with-cuda')
    mkdirSync(dir)
    symlinkSync(packagedLibrary(), join(dir, basename(packagedLibrary())))
    writeFileSync(join(dir, 'libonnxruntime_providers_cuda.so'), 'not a library')
    const script = `import { openDevice } from './dist/server/runtime/device.js'
      try { openDevice('cuda', process.argv[1]) } catch (error) { console.log(error.message) }`
    const args = ['--input-type=module', '--eval', script, dir]
    const { stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
    assert.match(
      stdout,
      /--device cuda could not be opened: .*ONNX Runtime says: .*libonnxruntime_providers/,
    )
  })
})

describe('weights on a device', () => {
  const withHalves = { name: 'webgpu', hasFloat16: true } as const
  const withoutHalves = { name: 'webgpu', hasFloat16: false } as const

  it('are float16 by default where the GPU has it', () => {
    assert.equal(
      resolveWeights('auto', { numParameters: 1e6, keepsNumbers: false }, withHalves),
      'fp16',
    )
    assert.equal(
      resolveWeights('auto', { numParameters: 1e6, keepsNumbers: false }, withoutHalves),
      'fp32',
    )
    assert.equal(
      resolveWeights('auto', { numParameters: 1e9, keepsNumbers: false }, withoutHalves),
      'int4',
    )
    assert.equal(
      resolveWeights('auto', { numParameters: 1e9, keepsNumbers: false }, cpuDevice),
      'int4',
    )
  })

  it('of integers meet activations of the shortest floats there are', () => {
    assert.equal(targetOf('int4', withHalves, null, 'auto').floats, 'float16')
    assert.equal(targetOf('int4', withoutHalves, null, 'auto').floats, 'float32')
    assert.equal(targetOf('fp32', withHalves, null, 'auto').floats, 'float32')
    assert.equal(targetOf('int4', cpuDevice, null, 'auto').operators, 'cpu')
    assert.equal(targetOf('int4', withHalves, null, 'auto').operators, 'accelerator')
  })

  it('of the cache are those that are computed in, or halves that our own operators read', () => {
    const cacheOf = (...choice: Parameters<typeof targetOf>) => targetOf(...choice).cacheFloats
    assert.equal(cacheOf('int4', withHalves, null, 'auto'), 'float16')
    assert.equal(cacheOf('int4', cpuDevice, 'onnxruntime', 'auto'), 'float32')
    assert.equal(cacheOf('int4', cpuDevice, 'own', 'auto'), 'float16')
    assert.equal(cacheOf('int4', cpuDevice, 'own', 'fp32'), 'float32')
    assert.equal(cacheOf('fp32', cpuDevice, 'own', 'auto'), 'float32')
    assert.equal(cacheOf('fp32', cpuDevice, 'own', 'fp16'), 'float16')
    assert.throws(
      () => cacheOf('int4', cpuDevice, 'onnxruntime', 'fp16'),
      hasCode('invalid_config', /fp16 needs --device cpu and --kernels own.*use fp32 or auto/),
    )
    assert.throws(
      () => cacheOf('fp16', withHalves, null, 'fp32'),
      hasCode('invalid_config', /fp32 needs .*are fp16: use fp16 or auto/),
    )
  })

  it('of 16 bits are no integers: they have no blocks', () => {
    const open = { weightBlock: null, weightZeroPoints: null }
    assert.deepEqual(formatOf('fp16', open), { kind: 'fp16' })
    assert.throws(
      () => formatOf('fp16', { ...open, weightBlock: 64 }),
      hasCode('invalid_config', /these are fp16/),
    )
  })

  it('are refused where they cannot run', () => {
    assert.throws(
      () => resolveWeights('fp16', { numParameters: 1, keepsNumbers: false }, cpuDevice),
      hasCode('invalid_config', /needs a GPU/),
    )
    assert.throws(
      () => resolveWeights('fp16', { numParameters: 1, keepsNumbers: false }, withoutHalves),
      hasCode('invalid_config', /16-bit/),
    )
    const cuda = { name: 'cuda', hasFloat16: true } as const
    assert.throws(
      () => resolveWeights('fp32', { numParameters: 1, keepsNumbers: false }, cuda),
      hasCode('invalid_config', /use fp16/),
    )
  })
})

describe('halves', () => {
  /** By the definition of the format. */
  const halfValue = (half: number): number => {
    const sign = half & 0x8000 ? -1 : 1
    const exponent = (half >> 10) & 31
    const fraction = (half & 0x3ff) / 1024
    if (exponent === 0) return sign * fraction * 2 ** -14
    if (exponent < 31) return sign * (1 + fraction) * 2 ** (exponent - 15)
    return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  }

  it('keep every number that is one', () => {
    for (let half = 0; half < 0x10000; half++) {
      const value = halfValue(half)
      if (Number.isNaN(value)) assert.ok(Number.isNaN(halfValue(toHalf(value))))
      else assert.equal(toHalf(value), half)
    }
  })

  it('are the nearest ones, the even one between two', () => {
    for (let half = 0; half < 0x7bff; half++) {
      const [low, high] = [halfValue(half), halfValue(half + 1)]
      const middle = (low + high) / 2
      const even = half % 2 === 0 ? half : half + 1
      assert.equal(toHalf(middle), even)
      assert.equal(toHalf(middle + (high - low) / 16), half + 1)
      assert.equal(toHalf(-middle + (high - low) / 16), half | 0x8000)
    }
  })

  it('are infinite beyond the largest', () => {
    assert.deepEqual([...toHalves([65504, 65519, 65520, -1e9])], [0x7bff, 0x7bff, 0x7c00, 0xfc00])
  })
})

describe('a graph in float16', () => {
  it('gives the logits of float32 to within its rounding', async () => {
    const model = {
      checkpoint: join(root, 'models', 'tiny-reasoner'),
      adapters: join(root, 'adapters'),
    }
    const results: Float32Array[][] = []
    for (const floats of ['float32', 'float16'] as const) {
      const kind = floats === 'float32' ? 'fp32' : 'fp16'
      const served = await openServedModel({
        ...model,
        rows: 2,
        capacity: 32,
        format: { kind },
        floats,
      })
      const components = await served.components({ 'safety-r1': 1 })
      const { runner } = served
      const own = []
      own.push((await runner.prefill({ row: 0, tokens: [5, 17, 33], past: 0, components })).slice())
      runner.copyRow(0, 1, 0, 3)
      const token = { token: 70, past: 3 }
      own.push(
        (
          await runner.decode([
            { ...token, components: [] },
            { ...token, components },
          ])
        ).slice(),
      )
      served.close()
      results.push(own)
    }
    const [expected = [], got = []] = results
    for (const [i, logits] of got.entries()) {
      const difference = relativeDifference(logits, expected[i]!)
      assert.ok(difference > 0 && difference < 0.02, `result ${i} differs by ${difference}`)
    }
  })
})

describe('the self-test of a device', () => {
  const random = createRandomNumbers(1)
  const expected = Float32Array.from({ length: 1000 }, () => 3 + 2 * normal(random))
  const shifted = (by: number) => expected.map((value, i) => value + (i % 2 === 0 ? by : -by))
  const judge = (got: Float32Array) =>
    requireEqual('webgpu', { kind: 'fp32' }, [expected, got], [expected, expected])

  it('measures a difference against the spread of the logits', () => {
    const difference = relativeDifference(shifted(0.02), expected)
    assert.ok(Math.abs(difference - 0.01) < 1e-3, `${difference}`)
  })

  it('passes rounding and refuses anything else, and what is no number', () => {
    assert.ok(judge(shifted(1e-4)) < 1e-3)
    for (const wrong of [shifted(0.1), expected.toReversed(), expected.map(() => Number.NaN)]) {
      assert.throws(
        () => judge(wrong),
        hasCode('device_unavailable', /failed its self-test: .* --device cpu/),
      )
    }
  })
})

describe('a GPU that fails', () => {
  it('is told of once, whatever failed on it, and the step fails', async () => {
    const lost = new Error('device lost')
    const fail = () => {
      throw lost
    }
    let blockMax = Float32Array.of(1)
    const runner = {
      prefill: async () => new Float32Array(1),
      decode: async () => fail(),
      verdict: async () => fail(),
      get blockMax() {
        return blockMax
      },
      get probe() {
        return blockMax
      },
      numBlocks: 1,
      positionBytes: 1,
      copyRow: fail,
      savePositions: fail,
      restorePositions: fail,
      reshape: fail,
      release: () => {},
    } satisfies Runner
    const told: unknown[] = []
    const guarded = guardRunner(runner, (error) => told.push(error))
    const input = { row: 0, tokens: [1], past: 0, components: [] }
    assert.equal((await guarded.prefill(input)).length, 1)
    blockMax = Float32Array.of(2)
    assert.equal(guarded.blockMax, blockMax)
    assert.equal(guarded.probe, blockMax)
    await assert.rejects(guarded.decode([]), lost)
    await assert.rejects(guarded.verdict([], [], [0, 1]), lost)
    assert.throws(() => guarded.copyRow(0, 1, 0, 1), lost)
    assert.throws(() => guarded.reshape({ rows: 1, capacity: 1 }, []), lost)
    assert.deepEqual(told, [lost])
  })
})
