// The plan of the KV cache and the adapters: what fits, and what is said when it does not.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ModelConfig } from '../server/contracts/checkpoint.ts'
import type { EngineOptions } from '../server/contracts/engine.ts'
import { readFreeMemory } from '../server/engine/free-memory.ts'
import { planMemory } from '../server/engine/memory.ts'
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
) =>
  planMemory({
    freeBytes,
    maxChunk: 512,
    config: { ...config, ...changes },
    options: {
      model: '',
      servedModelName: '',
      adapters: '',
      adapterModules: ['up_proj'],
      scansAdapters: true,
      acceptsOtherBases: false,
      device: 'cpu',
      onnxruntime: null,
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
    format: { kind: 'fp32' },
    floats: 'float32',
    sites: ['up_proj'],
    numParameters: 1000,
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
        /needs \d+ MiB \(weights 1, workspace \d+, adapters 1, KV cache 64\) and 60 MiB are free/,
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
