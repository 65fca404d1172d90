// Adapters folded into weights: what is converted anew, what is shared with the base's conversion, and how
// far the sum is from an adapter that runs beside the weights, in every format.

import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import type { ModuleUpdate, ScaledRankOne } from '../server/contracts/adapter.ts'
import {
  cpuTarget,
  linearModules,
  type ModelConfig,
  moduleShape,
  type WeightFormat,
} from '../server/contracts/checkpoint.ts'
import { type ConvertOptions, convertCheckpoint } from '../server/conversion/convert.ts'
import { foldedTensors, foldsOf } from '../server/conversion/folded-tensors.ts'
import { createRunner } from '../server/model/runner.ts'
import { ownKernels } from '../server/runtime/own-kernels.ts'
import { writeRandomCheckpoint } from './support/random-checkpoint.ts'
import { writeRandomGguf } from './support/random-gguf.ts'
import { createTempFolder } from './support/temp-folder.ts'
import { pseudoRandom } from './support/tensor-files.ts'

const temp = createTempFolder()
const newFolder = () => mkdtempSync(join(temp, 'x-'))
const dir = writeRandomCheckpoint(join(temp, 'qwen2'), 'qwen2', 1)
const fp32: WeightFormat = { kind: 'fp32' }
const blocks = { kind: 'quantized', block: 32, zeroPoints: false, searchScales: false } as const
const int8: WeightFormat = { ...blocks, bits: 8 }
const int4: WeightFormat = { ...blocks, bits: 4 }

/** Rank 2 on these modules of every layer, as large as the tests' random weights need to be moved. */
function adapterOn(
  config: ModelConfig,
  modules: readonly (typeof linearModules)[number][],
  seed: number,
  scale = 1,
): ScaledRankOne[] {
  return [0, 1].map((component) => {
    const updates = modules.flatMap((module, m) =>
      Array.from({ length: config.numLayers }, (_, layer): ModuleUpdate => {
        const { inner, outer } = moduleShape(config, module)
        const at = seed + 100 * component + 10 * layer + m
        const a = pseudoRandom(inner, at).map((x) => x * 0.2)
        const b = pseudoRandom(outer, at + 1000).map((x) => x * 0.2)
        return { layer, module, a, b }
      }),
    )
    return { component: updates, scale }
  })
}

const own = ownKernels() !== null
const target = { ...cpuTarget, kernels: own ? 'own' : 'onnxruntime' } as const

async function convert(path: string, cacheDir: string, changes: Partial<ConvertOptions> = {}) {
  const done = new Set<string>()
  const notices: string[] = []
  const checkpoint = openCheckpoint(path)
  try {
    const { graphPath, baseDigest } = await convertCheckpoint({
      dir: path,
      checkpoint,
      maxContext: 64,
      format: fp32,
      target,
      sites: linearModules,
      cacheDir,
      onProgress: (what) => done.add(what),
      onNotice: (message) => notices.push(message),
      ...changes,
    })
    return { graphPath, baseDigest, folder: dirname(graphPath), done, notices }
  } finally {
    checkpoint.close()
  }
}

const foldedIn = (folder: string) => readdirSync(folder).filter((name) => /^folded\./.test(name))

function configOf(path: string): ModelConfig {
  const checkpoint = openCheckpoint(path)
  checkpoint.close()
  return checkpoint.config
}
const config = configOf(dir)

/** Logits of every token, with these adapters beside the weights. */
async function logitsOf(
  path: string,
  graphPath: string,
  components: readonly ScaledRankOne[],
): Promise<Float32Array> {
  const config = configOf(path)
  const runner = createRunner({
    graphPath,
    config,
    threads: 1,
    rows: 1,
    shape: { rows: 1, capacity: 64 },
    sites: linearModules,
    maxChunk: 64,
    target,
  })
  try {
    const tokens = Array.from({ length: 24 }, (_, i) => (i * 37) % config.vocabSize)
    const input = { row: 0, tokens, past: 0, components, numLogits: tokens.length }
    return (await runner.prefill(input)).slice()
  } finally {
    runner.release()
  }
}

function rootMeanSquare(x: Float32Array, y: Float32Array): number {
  return Math.sqrt(x.reduce((sum, value, i) => sum + (value - y[i]!) ** 2, 0) / x.length)
}

const negated = (updates: readonly ScaledRankOne[]): ScaledRankOne[] =>
  updates.map(({ component, scale }) => ({ component, scale: -scale }))

describe('folding', () => {
  const up = adapterOn(config, ['up_proj'], 1, 1.5)

  it('adds in float64 and rounds once, whatever rows are read', () => {
    const checkpoint = openCheckpoint(dir)
    const folds = foldsOf(up)
    const tensors = foldedTensors(checkpoint.tensors, folds)
    const name = 'model.layers.1.mlp.up_proj.weight'
    const [rows = 0, columns = 0] = tensors.shape(name)
    const base = checkpoint.tensors.read(name)
    const want = new Float32Array(rows * columns)
    const pairs = up.map(({ component, scale }) => ({ ...component[1]!, scale }))
    for (let row = 0; row < rows; row++) {
      for (let i = 0; i < columns; i++) {
        const change = pairs.reduce((sum, { a, b, scale }) => sum + scale * b[row]! * a[i]!, 0)
        want[row * columns + i] = base[row * columns + i]! + change
      }
    }
    assert.deepEqual(tensors.read(name), want)
    assert.deepEqual(tensors.readRows(name, 5, 7), want.subarray(5 * columns, 12 * columns))
    assert.deepEqual(tensors.readRows(name, 5, 0), new Float32Array(0))
    assert.deepEqual(checkpoint.tensors.read(name), base, 'the checkpoint stays as it is')
    const other = 'model.layers.1.mlp.gate_proj.weight'
    assert.deepEqual(tensors.read(other), checkpoint.tensors.read(other))
    checkpoint.close()
  })

  it('refuses a sum that is no number, and names the weight', async () => {
    const huge = up.map(({ component }) => ({
      scale: 4,
      component: component.map((update) => ({ ...update, b: update.b.map(() => 3e38) })),
    }))
    const cache = newFolder()
    await assert.rejects(convert(dir, cache, { folds: foldsOf(huge) }), {
      code: 'invalid_adapter',
      message: /up_proj.*lower strength/,
    })
    assert.ok(!readdirSync(cache).some((name) => name.endsWith('.partial')))
  })

  it('of strength 0 is none', async () => {
    const cache = newFolder()
    const plain = await convert(dir, cache)
    const zero = await convert(dir, cache, { folds: foldsOf(up.map((x) => ({ ...x, scale: 0 }))) })
    assert.equal(zero.graphPath, plain.graphPath)
  })
})

describe('a folded conversion', () => {
  const up = adapterOn(config, ['up_proj'], 1)

  it('writes what changed, and shares the rest with the base, whose digest it keeps', async () => {
    const cache = newFolder()
    const plain = await convert(dir, cache)
    const weights = join(plain.folder, 'weights.bin')
    const before = statSync(weights)
    const merged = await convert(dir, cache, { folds: foldsOf(up) })
    assert.equal(merged.folder, plain.folder)
    assert.notEqual(merged.graphPath, plain.graphPath)
    assert.equal(merged.baseDigest, plain.baseDigest)
    assert.ok(merged.done.has('folding adapters') && !merged.done.has('converting weights'))
    assert.equal(statSync(weights).ctimeMs, before.ctimeMs)
    const [name = ''] = foldedIn(plain.folder)
    const gateUp = 2 * config.intermediateSize * config.hiddenSize * 4
    const { size } = statSync(join(plain.folder, name, 'weights.bin'))
    assert.equal(size, config.numLayers * Math.ceil(gateUp / 4096) * 4096)
  })

  it('is found again; another strength is another', async () => {
    const cache = newFolder()
    const first = await convert(dir, cache, { folds: foldsOf(up) })
    assert.ok(first.done.has('converting weights'), 'the base is converted with it')
    const second = await convert(dir, cache, { folds: foldsOf(up) })
    assert.deepEqual([second.graphPath, [...second.done]], [first.graphPath, []])
    const half = foldsOf(up.map((update) => ({ ...update, scale: 0.5 })))
    assert.notEqual((await convert(dir, cache, { folds: half })).graphPath, first.graphPath)
    assert.equal(foldedIn(first.folder).length, 2)
  })

  it('that is damaged is folded again', async () => {
    const cache = newFolder()
    const { folder, graphPath } = await convert(dir, cache, { folds: foldsOf(up) })
    const path = join(folder, foldedIn(folder)[0]!, 'weights.bin')
    const good = readFileSync(path)
    writeFileSync(path, good.subarray(0, good.length - 1))
    const again = await convert(dir, cache, { folds: foldsOf(up) })
    assert.match(again.notices.join(), /damaged.*folded again/)
    assert.equal(again.graphPath, graphPath)
    assert.deepEqual(readFileSync(path), good)
  })

  it('goes when four later ones were made', async () => {
    const cache = newFolder()
    const names: string[] = []
    let folder = ''
    for (const scale of [0.1, 0.2, 0.3, 0.4, 0.5]) {
      const folds = foldsOf(up.map((update) => ({ ...update, scale })))
      folder = (await convert(dir, cache, { folds })).folder
      names.push(foldedIn(folder).find((name) => !names.includes(name))!)
    }
    assert.deepEqual(foldedIn(folder).sort(), names.slice(1).sort())
  })

  it('needs room for itself alone, and says how much', async () => {
    const cache = newFolder()
    const { folder } = await convert(dir, cache)
    const full = convert(dir, cache, { folds: foldsOf(up), freeBytesOf: () => 1000 })
    await assert.rejects(full, { code: 'invalid_config', message: /needs 1\d .*are free/ })
    assert.deepEqual(foldedIn(folder), [])
  })

  it('leaves nothing of a process that died within it', async () => {
    const cache = newFolder()
    const { folder } = await convert(dir, cache)
    const onProgress = (what: string) => {
      if (what === 'folding adapters') throw new Error('died')
    }
    await assert.rejects(convert(dir, cache, { folds: foldsOf(up), onProgress }), /died/)
    assert.deepEqual(foldedIn(folder), [])
    assert.ok(!readdirSync(cache).some((name) => name.endsWith('.partial')))
  })
})

describe('folded weights give what the adapter gives beside the weights', () => {
  const all = adapterOn(config, linearModules, 7)

  async function compare(path: string, format: WeightFormat) {
    const cacheDir = newFolder()
    const updates = path === dir ? all : adapterOn(configOf(path), linearModules, 7)
    const plain = await convert(path, cacheDir, { format })
    const merged = await convert(path, cacheDir, { format, folds: foldsOf(updates) })
    const base = await logitsOf(path, plain.graphPath, [])
    const hot = await logitsOf(path, plain.graphPath, updates)
    const folded = await logitsOf(path, merged.graphPath, [])
    const taken = await logitsOf(path, merged.graphPath, negated(updates))
    const moved = rootMeanSquare(base, hot)
    return {
      base,
      moved,
      /** Shares of how far the adapter moves the logits. */
      merged: rootMeanSquare(folded, hot) / moved,
      unmerged: rootMeanSquare(taken, base) / moved,
    }
  }

  it('fp32, and the base when it is taken off again', async () => {
    const { moved, merged, unmerged } = await compare(dir, fp32)
    assert.ok(moved > 0.1, `the adapter moves the logits by ${moved}`)
    assert.ok(merged < 1e-5 && unmerged < 1e-5, `${merged} and ${unmerged} of it`)
  })

  for (const [name, format] of Object.entries({ int8, int4 })) {
    it(`${name}, no further than such weights are from fp32`, async () => {
      const exact = await compare(dir, fp32)
      const { base, moved, merged, unmerged } = await compare(dir, format)
      const rounding = rootMeanSquare(base, exact.base) / moved
      assert.ok(merged < 2 * rounding && unmerged < 2 * rounding, `${merged}, ${unmerged}`)
    })
  }

  it('stored blocks: what changed is rounded to 8 bits', {
    skip: !own && 'no own kernels',
  }, async () => {
    const path = writeRandomGguf(join(temp, 'stored.gguf'), {
      family: 'llama',
      hidden: 64,
      intermediate: 96,
      isTied: true,
      typeOf: () => 'Q4_0',
    })
    const { moved, merged, unmerged } = await compare(path, { kind: 'stored' })
    assert.ok(moved > 0.1, `the adapter moves the logits by ${moved}`)
    assert.ok(merged < 0.1 && unmerged < 0.1, `${merged} and ${unmerged} of it`)
  })
})
