// The plan of the KV cache and the adapters: what fits, and what is said when it does not.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ModelConfig } from '../server/contracts/checkpoint.ts'
import type { EngineOptions } from '../server/contracts/engine.ts'
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

const plan = (options: Partial<EngineOptions>, changes: Partial<ModelConfig> = {}) =>
  planMemory({
    config: { ...config, ...changes },
    options: {
      model: '',
      servedModelName: '',
      adapters: '',
      device: 'cpu',
      onnxruntime: null,
      weights: 'auto',
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
  it('serves the whole context where it fits', () => {
    const { capacity, bytes } = plan({ kvMemoryBytes: 64 * mebibyte })
    assert.equal(capacity, 4096)
    assert.equal(bytes.kv, 32 * mebibyte)
    assert.equal(bytes.weights, 4000)
  })

  it('takes --max-context as it is', () => {
    const { capacity, bytes } = plan({ maxContext: 100, kvMemoryBytes: 64 * mebibyte })
    assert.equal(capacity, 100)
    assert.equal(bytes.kv, 100 * 4 * 2048)
  })

  it('shortens the context to --kv-memory when none was asked for, never beyond it', () => {
    const { capacity, bytes } = plan({ kvMemoryBytes: 8 * mebibyte })
    assert.equal(capacity, 1024)
    assert.ok(bytes.kv <= 8 * mebibyte)
  })

  it('refuses a context that was asked for and does not fit, with both sizes', () => {
    assert.throws(() => plan({ maxContext: 4096, kvMemoryBytes: 8 * mebibyte }), {
      code: 'invalid_config',
      message: /4 rows of 4096 tokens take 32 MiB and 8 MiB may be used.*--kv-memory/,
    })
  })

  it('refuses a context beyond the model, and memory for next to nothing', () => {
    assert.throws(() => plan({ maxContext: 4097 }), {
      code: 'invalid_config',
      message: /at most 4096.*got 4097/,
    })
    assert.throws(() => plan({ kvMemoryBytes: 1000 }), { code: 'invalid_config' })
  })

  it('keeps adapters within --adapter-memory, and room for eight where nothing is said', () => {
    assert.equal(plan({ maxContext: 16, adapterMemoryBytes: 1e6 }).bytes.adapters, 1e6)
    const large = { numLayers: 48, hiddenSize: 5120, intermediateSize: 13824 }
    const { bytes } = plan({ maxContext: 16 }, large)
    assert.ok(bytes.adapters >= 8 * 48 * (5120 + 13824) * 4)
  })
})
