// The plan of the KV cache and the adapters: what fits, and what is said when it does not.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { cpuTarget, type ModelConfig } from '../server/contracts/checkpoint.ts'
import type { EngineOptions } from '../server/contracts/engine.ts'
import type { FloatType } from '../server/contracts/float-type.ts'
import { planMemory } from '../server/engine/memory.ts'
import { createAdapterRows } from '../server/model/adapter-rows.ts'
import { readFreeMemory } from '../server/runtime/free-memory.ts'
import type { Tensor } from '../server/runtime/session.ts'
import { smallModel } from './support/tensor-files.ts'

const mebibyte = 2 ** 20
/** 2 layers of 2 heads of 64: 2 KiB a token. */
const config: ModelConfig = {
  ...smallModel,
  numLayers: 2,
  numKvHeads: 2,
  headDim: 64,
  hiddenSize: 256,
  intermediateSize: 768,
  maxPosition: 4096,
}

const plan = (
  options: Partial<EngineOptions>,
  changes: Partial<ModelConfig> = {},
  freeBytes = 4096 * mebibyte,
  cacheFloats: FloatType = 'float32',
) =>
  planMemory({
    freeBytes,
    maxChunk: 512,
    config: { ...config, ...changes },
    options: {
      model: '',
      servedModelName: '',
      adapters: '',
      guard: 'none',
      operatorsAdapters: [],
      adapterModules: ['up_proj'],
      scansAdapters: true,
      upstream: null,
      merged: [],
      acceptsOtherBases: false,
      guardExact: false,
      device: 'cpu',
      onnxruntime: null,
      kernels: 'auto',
      kvCacheDtype: 'auto',
      weights: 'auto',
      weightBlock: null,
      weightZeroPoints: null,
      maxBatch: 4,
      maxContext: null,
      kvMemoryBytes: null,
      maxAdapterRank: 16,
      adapterMemoryBytes: null,
      threads: null,
      cacheDir: '',
      ...options,
    },
    target: { ...cpuTarget, cacheFloats },
    sites: ['up_proj'],
    guard: null,
    weightBytes: 4000,
  })

describe('the memory plan', () => {
  it('leaves the weights to a GPU, where nothing tells what is free', () => {
    const scarce = 64 * mebibyte
    const wide = { intermediateSize: 1 << 20, maxPosition: 1 << 20 }
    const onGpu = plan({ device: 'webgpu' }, wide, scarce)
    assert.equal(onGpu.bytes.kv, 2048 * mebibyte)
    assert.throws(() => plan({}, wide, scarce), /The model needs/)
  })

  it('serves the whole context where one row of it fits, however many rows there may be', () => {
    const { limits, bytes } = plan({ kvMemoryBytes: 8 * mebibyte })
    assert.deepEqual(limits, { maxRows: 4, maxCapacity: 4096, maxPositions: 4096 })
    assert.equal(bytes.kv, 8 * mebibyte)
    assert.equal(bytes.weights, 4000)
  })

  it('holds twice as many positions with keys and values of 16 bits', () => {
    const halves = plan({ kvMemoryBytes: 4 * mebibyte }, {}, undefined, 'float16')
    assert.equal(halves.limits.maxPositions, 4096)
    assert.equal(halves.bytes.kv, 4 * mebibyte)
  })

  it('takes --max-context as it is', () => {
    assert.equal(plan({ maxContext: 100, kvMemoryBytes: mebibyte }).limits.maxCapacity, 100)
  })

  it('shortens the context to --kv-memory when none was asked for, never beyond it', () => {
    const { limits, bytes } = plan({ kvMemoryBytes: 2 * mebibyte })
    assert.equal(limits.maxCapacity, 1024)
    assert.ok(bytes.kv <= 2 * mebibyte)
  })

  it('takes half of what is left where nothing is said, and no more than rows could use', () => {
    const { limits, bytes } = plan({}, { numLayers: 512, maxPosition: 65536 })
    assert.ok(bytes.kv > 1000 * mebibyte && bytes.kv < 2048 * mebibyte, `${bytes.kv}`)
    assert.ok(limits.maxCapacity < 65536)
    assert.equal(plan({}).bytes.kv, 2 * 4 * 4096 * 2048)
  })

  it('refuses a context that was asked for and does not fit, with both sizes', () => {
    assert.throws(() => plan({ maxContext: 4096, kvMemoryBytes: 2 * mebibyte }), {
      code: 'invalid_config',
      message: /one row of 4096 tokens takes 8 MiB and 2 MiB may be used.*--kv-memory/,
    })
  })

  it('refuses a context beyond the model, and memory for next to nothing', () => {
    assert.throws(() => plan({ maxContext: 4097 }), {
      code: 'invalid_config',
      message: /at most 4096.*got 4097/,
    })
    assert.throws(() => plan({ kvMemoryBytes: 1000 }), { code: 'invalid_config' })
  })

  it('refuses what cannot fit into the free memory, part by part', () => {
    assert.throws(() => plan({ kvMemoryBytes: 64 * mebibyte }, {}, 60 * mebibyte), {
      code: 'invalid_config',
      message:
        /needs \d+ MiB \(weights 1, workspace \d+, adapters 1, adapters of running rows 1, KV cache 64\) and 60 MiB are free/,
    })
    assert.doesNotThrow(() => plan({ kvMemoryBytes: 32 * mebibyte }, {}, 60 * mebibyte))
  })

  it('keeps adapters within --adapter-memory, and room for eight where nothing is said', () => {
    assert.equal(plan({ maxContext: 16, adapterMemoryBytes: 1e6 }).bytes.adapters, 1e6)
    const large = { numLayers: 48, hiddenSize: 5120, intermediateSize: 13824 }
    const { bytes } = plan({ maxContext: 16 }, large)
    assert.ok(bytes.adapters >= 8 * 48 * (5120 + 13824) * 4)
  })
})

describe('the memory of adapters', () => {
  const large = { numLayers: 48, hiddenSize: 5120, intermediateSize: 13824 }
  const rank = 48 * (5120 + 13824) * 4

  it('holds the vectors of all rows and of a prompt, as wide as a request may make them', () => {
    const rows = (options: Partial<EngineOptions>) =>
      plan({ maxContext: 16, ...options }, large).bytes.adapterRows
    assert.equal(rows({ maxAdapterRank: 16 }), (4 + 1) * 16 * rank)
    // Widths are powers of two, and a prompt's is never 1.
    assert.equal(rows({ maxAdapterRank: 5 }), (4 + 1) * 8 * rank)
    assert.equal(rows({ maxAdapterRank: 1, maxBatch: 2 }), (2 + 2) * rank)
    assert.equal(rows({ adapterMemoryBytes: 1e9 }), rows({}))
  })

  it('is what tables of rows really take', () => {
    const sites = ['up_proj'] as const
    const rows = createAdapterRows({ config, sites, rows: 3, minWidth: 1 })
    const component = Array.from({ length: config.numLayers }, (_, layer) => ({
      layer,
      module: sites[0],
      a: new Float32Array(config.hiddenSize),
      b: new Float32Array(config.intermediateSize),
    }))
    const five = Array.from({ length: 5 }, () => ({ component, scale: 1 }))
    rows.write([five, five, five])
    const views = [...rows.view(3).values()]
    const taken = views.reduce((sum, view) => sum + (view as Tensor<'float32'>).data.byteLength, 0)
    const prompt = 8 * config.numLayers * (config.hiddenSize + config.intermediateSize) * 4
    assert.equal(taken + prompt, plan({ maxBatch: 3, maxAdapterRank: 5 }).bytes.adapterRows)
    for (const view of views) view.release()
    rows.release()
  })

  it('leaves less to the KV cache, and too little is refused with what to lower', () => {
    const free = 1600 * mebibyte
    const narrow = { maxContext: 16, maxBatch: 1, maxAdapterRank: 1 }
    assert.doesNotThrow(() => plan(narrow, large, free))
    for (const more of [
      { maxBatch: 64, maxAdapterRank: 64 },
      { maxAdapterRank: 1, adapterMemoryBytes: 2048 * mebibyte },
    ]) {
      assert.throws(() => plan({ ...narrow, ...more }, large, free), {
        code: 'invalid_config',
        message:
          /adapters \d+, adapters of running rows \d+.* --adapter-memory, --max-adapter-rank/,
      })
    }
    const { kv } = plan({ maxAdapterRank: 64 }, { ...large, maxPosition: 1 << 20 }, free * 4).bytes
    const { kv: more } = plan(
      { maxAdapterRank: 1 },
      { ...large, maxPosition: 1 << 20 },
      free * 4,
    ).bytes
    assert.ok(kv < more, `${kv} < ${more}`)
  })
})

describe('free memory', () => {
  const free = (files: Readonly<Record<string, string>>) =>
    readFreeMemory({ freeBytes: () => 1000, read: (path) => files[path] })

  it('is what the machine says, where no group limits it', () => {
    assert.equal(free({}), 1000)
    assert.equal(
      free({
        '/proc/self/cgroup': '0::/a\n',
        '/sys/fs/cgroup/a/memory.max': 'max\n',
        '/sys/fs/cgroup/a/memory.current': '10\n',
      }),
      1000,
    )
  })

  it('is what the tightest group above leaves; what it can drop counts as free', () => {
    const files = {
      '/proc/self/cgroup': '0::/a/b\n',
      '/sys/fs/cgroup/a/b/memory.max': '900\n',
      '/sys/fs/cgroup/a/b/memory.current': '100\n',
      '/sys/fs/cgroup/a/memory.max': '500\n',
      '/sys/fs/cgroup/a/memory.current': '300\n',
      '/sys/fs/cgroup/a/memory.stat': 'anon 7\ninactive_file 50\nactive_file 9\n',
    }
    assert.equal(free(files), 250)
  })

  it('is read from the first version of groups too, and is never negative', () => {
    const files = {
      '/proc/self/cgroup': '5:cpu:/x\n4:memory:/docker/1\n',
      '/sys/fs/cgroup/memory/memory.limit_in_bytes': '400\n',
      '/sys/fs/cgroup/memory/memory.usage_in_bytes': '150\n',
    }
    assert.equal(free(files), 250)
    const over = { ...files, '/sys/fs/cgroup/memory/memory.usage_in_bytes': '450\n' }
    assert.equal(free(over), 0)
  })
})
