// An engine opened with a guard in its folder: the real model, the whole way to its graph.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openCheckpoint } from '../server/checkpoint/checkpoint.ts'
import type { EngineOptions } from '../server/contracts/engine.ts'
import { readBase } from '../server/conversion/base.ts'
import { openEngine } from '../server/engine/open.ts'
import { hasCode } from './support/errors.ts'
import { guardModules, writeGuard } from './support/guard-folder.ts'
import { root } from './support/root.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
const reasoner = join(root, 'models', 'tiny-reasoner')
const cacheDir = join(temp, 'cache')
mkdirSync(cacheDir)

const checkpoint = openCheckpoint(reasoner)
const { config: model } = checkpoint
const { digest: baseDigest } = await readBase({ dir: reasoner, checkpoint, cacheDir })
checkpoint.close()

function open(
  adapters: string,
  guard: EngineOptions['guard'],
  kernels: EngineOptions['kernels'] = 'auto',
) {
  const options: EngineOptions = {
    model: reasoner,
    servedModelName: 'reasoner',
    adapters,
    guard,
    operatorsAdapters: [],
    adapterModules: [],
    scansAdapters: true,
    upstream: null,
    merged: [],
    acceptsOtherBases: false,
    guardExact: false,
    device: 'cpu',
    onnxruntime: null,
    kernels,
    weights: 'auto',
    kvCacheDtype: 'auto',
    weightBlock: null,
    weightZeroPoints: null,
    maxBatch: 2,
    maxContext: null,
    kvMemoryBytes: null,
    maxAdapterRank: 4,
    adapterMemoryBytes: null,
    threads: 1,
    cacheDir,
  }
  const ignore = () => {}
  return openEngine(options, {
    heart: { enter: ignore, progress: ignore },
    publish: ignore,
    onStats: ignore,
    onOutage: ignore,
    onProgress: ignore,
    onNotice: ignore,
    onDeviceFailure: (error) => assert.fail(String(error)),
  })
}

function newFolder(): string {
  const adapters = mkdtempSync(join(temp, 'adapters-'))
  cpSync(join(root, 'adapters', 'safety-r1'), join(adapters, 'safety-r1'), { recursive: true })
  return adapters
}

test("a guard's modules are sites of verdicts alone, where those have a graph of their own", {
  timeout: 60_000,
}, async () => {
  const adapters = newFolder()
  const marks = { token: 799, labels: { safe: 15, unsafe: 16 } }
  writeGuard(adapters, 'judge', { ...marks, model, baseDigest })
  const judged = await open(adapters, 'auto')
  const unjudged = await open(adapters, 'none')
  const ofOneGraph = await open(adapters, 'auto', 'onnxruntime')
  try {
    const isAside = judged.model.kernels === 'own' && process.platform === 'linux'
    assert.deepEqual(judged.model.adapterModules, isAside ? ['up_proj'] : guardModules)
    assert.deepEqual(ofOneGraph.model.adapterModules, guardModules)
    assert.equal(judged.model.guard?.id, 'judge')
    assert.equal(judged.model.guard.hasProbe, true)
    const extra = judged.model.bytes.adapterRows - unjudged.model.bytes.adapterRows
    assert.ok(extra > 0)
    const [judge] = await judged.listAdapters({ ids: ['judge'] })
    assert.equal(judge?.digest, judged.model.guard.digest)
    assert.deepEqual(unjudged.model.adapterModules, ['up_proj'])
    assert.equal(unjudged.model.guard, null)
  } finally {
    judged.close()
    unjudged.close()
    ofOneGraph.close()
  }
})

test('a broken guard ends the start', { timeout: 60_000 }, async () => {
  const adapters = newFolder()
  const marks = { token: 5, labels: { safe: 15, unsafe: 16 } }
  writeGuard(adapters, 'judge', { ...marks, model, baseDigest })
  await assert.rejects(open(adapters, 'auto'), hasCode('invalid_config', /guard\.token 5/))
})
