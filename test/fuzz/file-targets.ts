// Files of checkpoints and adapters, given to what reads them: each is read, or refused in a clear
// error of the codes that files may have.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { findAdapterFolder } from '../../server/adapters/adapter-folder.ts'
import { readPeftAdapter, UnservedModules } from '../../server/adapters/peft.ts'
import { openCheckpoint } from '../../server/checkpoint/checkpoint.ts'
import { safetensorsFromBuffer } from '../../server/checkpoint/safetensors.ts'
import { root } from '../support/root.ts'
import {
  encodeSafetensors,
  joinSafetensors,
  peftConfig,
  smallModel,
  upKey,
  upTensors,
} from '../support/tensor-files.ts'
import { checkRefusal, requireRefusal } from './claims.ts'
import { mutatedJson } from './mutations.ts'
import type { Target } from './target.ts'

const checkpointCodes = ['invalid_checkpoint', 'unsupported_checkpoint']
const adapterCodes = ['invalid_adapter', 'unsupported_adapter', 'adapter_rank_exceeded']

/** A folder of its own for each batch. */
export function createFolder(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'dutyfree-fuzz-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}

interface SafetensorsBytes {
  readonly header: string
  readonly data: number
  readonly length: bigint | null
  readonly cut: number | null
}

const goodFile = encodeSafetensors(upTensors({}), { format: 'pt' })
const headerLength = Number(goodFile.readBigUInt64LE(0))
const goodHeader = JSON.parse(goodFile.subarray(8, 8 + headerLength).toString())
const dataLength = goodFile.length - 8 - headerLength
const headerKeys = ['dtype', 'shape', 'data_offsets', '__metadata__', 'format', upKey(0, 'A'), 'x']
const headerValues = fc.oneof(
  fc.constantFrom<unknown>(
    'F32',
    'BF16',
    'F64',
    'I8',
    'F4',
    'F99',
    [0, 4],
    [4, 0],
    [8],
    [0],
    [1e9, 1e9],
  ),
  fc.constantFrom<unknown>(
    [],
    null,
    {},
    [2 ** 53, 2],
    [-1],
    [0.5],
    { a: 1 },
    '',
    2 ** 60,
    '__proto__',
  ),
  fc.array(fc.integer({ min: -1, max: 400 }), { maxLength: 3 }),
)

const safetensorsBytes: fc.Arbitrary<SafetensorsBytes> = fc.record({
  header: mutatedJson([goodHeader], headerKeys, headerValues),
  data: fc.constantFrom(dataLength, dataLength, dataLength, 0, 1, dataLength - 4, dataLength + 8),
  length: fc.option(fc.oneof(fc.bigInt(0n, 2000n), fc.bigInt(0n, 2n ** 64n - 1n)), { freq: 8 }),
  cut: fc.option(fc.nat(2000), { freq: 8 }),
})

function toBytes({ header, data, length, cut }: SafetensorsBytes): Buffer {
  const bytes = joinSafetensors(header, Buffer.alloc(data, 0x3c), length ?? undefined)
  return cut === null ? bytes : bytes.subarray(0, cut)
}

export const safetensorsTarget: Target<SafetensorsBytes> = {
  name: 'safetensors',
  inputs: safetensorsBytes,
  open: () => ({
    check(input) {
      checkRefusal(checkpointCodes, () => {
        const options = { code: 'invalid_checkpoint', label: 'model.safetensors' } as const
        const file = safetensorsFromBuffer(toBytes(input), options)
        for (const name of file.tensors.keys()) {
          checkRefusal(checkpointCodes, () => file.readFloat32(name))
        }
      })
    },
    close() {},
  }),
}

interface AdapterFiles {
  readonly config: string
  readonly tensors: SafetensorsBytes
  readonly manifest: string | null
}

const manifest = {
  base_digest: 'a'.repeat(64),
  recommended_strength: 0.8,
  description: 'An adapter',
  training: { seed: 1, examples: 3 },
}
const configKeys = [
  ...Object.keys(peftConfig),
  ...'use_dora lora_bias layer_replication fan_in_fan_out loftq_config megatron_config'.split(' '),
  ...'trainable_token_indices layers_to_transform up_proj model.layers.0.mlp.up_proj'.split(' '),
]

export const adapterTarget: Target<AdapterFiles> = {
  name: 'adapter',
  inputs: fc.record({
    config: fc.oneof(
      mutatedJson([peftConfig], configKeys),
      fc.constant(JSON.stringify(peftConfig)),
    ),
    tensors: safetensorsBytes,
    manifest: fc.option(mutatedJson([manifest], [...Object.keys(manifest), 'results'])),
  }),
  open() {
    const folder = createFolder()
    const path = join(folder.path, 'one')
    mkdirSync(path)
    return {
      async check({ config, tensors, manifest: text }) {
        writeFileSync(join(path, 'adapter_config.json'), config)
        writeFileSync(join(path, 'adapter_model.safetensors'), toBytes(tensors))
        rmSync(join(path, 'manifest.json'), { force: true })
        if (text !== null) writeFileSync(join(path, 'manifest.json'), text)
        const options = { model: smallModel, maxRank: 16, served: new Set(['up_proj'] as const) }
        try {
          await readPeftAdapter(findAdapterFolder(folder.path, 'one')!, options)
        } catch (error) {
          if (!(error instanceof UnservedModules)) requireRefusal(adapterCodes, error)
        }
      },
      close: folder.remove,
    }
  },
}

interface ConfigFiles {
  readonly config: string
  readonly generation: string
  readonly index: string
}

const embedded = join(root, 'models', 'tiny-reasoner')
const readGood = (name: string) => JSON.parse(readFileSync(join(embedded, name), 'utf8'))
const goodConfig = readGood('config.json')
const scaled = {
  ...goodConfig,
  rope_scaling: { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 512 },
}
const llama3 = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 64,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  num_hidden_layers: 2,
  vocab_size: 128,
  rope_scaling: {
    rope_type: 'llama3',
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  },
}
const modelKeys = [
  ...Object.keys({ ...goodConfig, ...llama3, ...llama3.rope_scaling }),
  ...'rope_parameters head_dim sliding_window layer_types quantization_config attention_bias'.split(
    ' ',
  ),
  ...'type attention_factor beta_fast beta_slow mscale mlp_bias partial_rotary_factor'.split(' '),
]
const generation = { eos_token_id: [1, 2], do_sample: true, temperature: 0.6, top_p: 0.9, top_k: 5 }
const index = {
  metadata: { total_size: 1 },
  weight_map: { 'model.norm.weight': 'model-00001-of-00002.safetensors', x: 'model.safetensors' },
}

export const configTarget: Target<ConfigFiles> = {
  name: 'config',
  inputs: fc.record({
    config: mutatedJson([goodConfig, scaled, llama3], modelKeys),
    generation: mutatedJson(
      [generation],
      [...Object.keys(generation), 'min_p', 'repetition_penalty'],
    ),
    index: mutatedJson([index], ['weight_map', 'a', '../x.safetensors', '/etc/passwd']),
  }),
  open() {
    const folder = createFolder()
    return {
      check(files) {
        writeFileSync(join(folder.path, 'config.json'), files.config)
        writeFileSync(join(folder.path, 'generation_config.json'), files.generation)
        writeFileSync(join(folder.path, 'model.safetensors.index.json'), files.index)
        // There are no weights: the end is always an error, after the three were read.
        assert.throws(
          () => openCheckpoint(folder.path).close(),
          (error) => {
            requireRefusal(checkpointCodes, error)
            return true
          },
        )
      },
      close: folder.remove,
    }
  },
}
