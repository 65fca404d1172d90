// Writes safetensors files and PEFT folders for tests: right ones by default, wrong ones on demand.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type LinearModule,
  type ModelConfig,
  moduleShape,
} from '../../server/contracts/checkpoint.ts'

export interface TestTensor {
  readonly shape: readonly number[]
  readonly dtype?: 'F32' | 'F16' | 'BF16' | 'F64' | 'I32'
  /** Bytes as they are stored; float32 values are encoded for F32. */
  readonly data: Float32Array | Buffer
}

export function encodeSafetensors(
  tensors: Readonly<Record<string, TestTensor>>,
  metadata?: Readonly<Record<string, string>>,
): Buffer {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {}
  const parts: Buffer[] = []
  let offset = 0
  for (const [name, { shape, dtype = 'F32', data }] of Object.entries(tensors)) {
    const bytes = Buffer.isBuffer(data)
      ? data
      : Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes.length] }
    offset += bytes.length
    parts.push(bytes)
  }
  return joinSafetensors(JSON.stringify(header), Buffer.concat(parts))
}

/** A file with exactly this header and data, however wrong. */
export function joinSafetensors(header: string, data: Buffer, length?: bigint): Buffer {
  const json = Buffer.from(header)
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(length ?? BigInt(json.length))
  return Buffer.concat([prefix, json, data])
}

/** Numbers that look random and are the same in every run. */
export function pseudoRandom(count: number, seed: number): Float32Array {
  let state = (seed * 2654435761 + 1) >>> 0
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

export const smallModel: ModelConfig = {
  architecture: 'Qwen2ForCausalLM',
  hiddenSize: 8,
  intermediateSize: 12,
  numLayers: 3,
  numHeads: 2,
  numKvHeads: 1,
  headDim: 4,
  vocabSize: 32,
  maxPosition: 64,
  ropeTheta: 10000,
  ropeScaling: null,
  rmsNormEps: 1e-6,
  tieWordEmbeddings: true,
  qkvBias: true,
  outputBias: false,
  mlpBias: false,
}

/** What a rank-1 adapter on up_proj of every layer of `smallModel` takes. */
export const smallAdapterBytes =
  smallModel.numLayers * (smallModel.hiddenSize + smallModel.intermediateSize) * 4

export const peftConfig = {
  peft_type: 'LORA',
  task_type: 'CAUSAL_LM',
  base_model_name_or_path: 'models/tiny-reasoner',
  r: 1,
  lora_alpha: 16,
  lora_dropout: 0.05,
  target_modules: ['up_proj'],
  bias: 'none',
  use_rslora: false,
  use_dora: false,
  modules_to_save: null,
  init_lora_weights: true,
  rank_pattern: {},
  alpha_pattern: {},
  inference_mode: true,
}

export const upKey = (layer: number, side: 'A' | 'B'): string =>
  `base_model.model.model.layers.${layer}.mlp.up_proj.lora_${side}.weight`

/** Tensors of an up_proj adapter on the small model. */
export function upTensors({
  rank = 1,
  layers = [0, 1, 2],
  seed = 1,
  model = smallModel,
}: {
  readonly rank?: number
  readonly layers?: readonly number[]
  readonly seed?: number
  readonly model?: ModelConfig
} = {}): Record<string, TestTensor> {
  const tensors: Record<string, TestTensor> = {}
  for (const layer of layers) {
    const { hiddenSize, intermediateSize } = model
    tensors[upKey(layer, 'A')] = {
      shape: [rank, hiddenSize],
      data: pseudoRandom(rank * hiddenSize, seed * 100 + layer),
    }
    tensors[upKey(layer, 'B')] = {
      shape: [intermediateSize, rank],
      data: pseudoRandom(intermediateSize * rank, seed * 100 + 50 + layer),
    }
  }
  return tensors
}

const blockOf = (module: LinearModule): string =>
  ['gate_proj', 'up_proj', 'down_proj'].includes(module) ? 'mlp' : 'self_attn'

/** Tensors of an adapter on any modules. */
export function loraTensors({
  rank,
  layers,
  modules,
  seed,
  model,
}: {
  readonly rank: number
  readonly layers: readonly number[]
  readonly modules: readonly LinearModule[]
  readonly seed: number
  readonly model: ModelConfig
}): Record<string, TestTensor> {
  const tensors: Record<string, TestTensor> = {}
  for (const [m, module] of modules.entries()) {
    const { inner, outer } = moduleShape(model, module)
    for (const layer of layers) {
      const key = `base_model.model.model.layers.${layer}.${blockOf(module)}.${module}`
      const turn = seed * 10_000 + m * 1000 + layer
      tensors[`${key}.lora_A.weight`] = {
        shape: [rank, inner],
        data: pseudoRandom(rank * inner, turn),
      }
      tensors[`${key}.lora_B.weight`] = {
        shape: [outer, rank],
        data: pseudoRandom(outer * rank, turn + 500),
      }
    }
  }
  return tensors
}

export interface TestAdapter {
  /** Overrides of the config; a string is written as it is. */
  readonly config?: Readonly<Record<string, unknown>> | string
  readonly tensors?: Readonly<Record<string, TestTensor>> | Buffer
  readonly manifest?: unknown
}

export function writeAdapter(
  root: string,
  id: string,
  { config = {}, tensors = upTensors(), manifest }: TestAdapter = {},
): string {
  const dir = join(root, id)
  mkdirSync(dir, { recursive: true })
  const text = typeof config === 'string' ? config : JSON.stringify({ ...peftConfig, ...config })
  writeFileSync(join(dir, 'adapter_config.json'), text)
  const bytes = Buffer.isBuffer(tensors)
    ? tensors
    : encodeSafetensors(tensors as Record<string, TestTensor>, { format: 'pt' })
  writeFileSync(join(dir, 'adapter_model.safetensors'), bytes)
  if (manifest !== undefined) writeFileSync(join(dir, 'manifest.json'), JSON.stringify(manifest))
  return dir
}
