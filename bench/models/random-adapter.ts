// Writes PEFT folders of random weights for a model's shape, for speed and memory.

import { closeSync, mkdirSync, openSync, renameSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import {
  type LinearModule,
  type ModelConfig,
  moduleShape,
} from '../../server/contracts/checkpoint.ts'
import type { Shape } from './shapes.ts'

export interface RandomAdapter {
  readonly rank: number
  readonly modules: readonly LinearModule[]
  readonly dtype: 'BF16' | 'F32'
  readonly seed: number
}

/** The folder appears only when it is complete. */
export function writeRandomAdapter(
  root: string,
  id: string,
  model: ModelConfig,
  { rank, modules, dtype, seed }: RandomAdapter,
): void {
  const partial = join(root, `.${id}.partial`)
  mkdirSync(partial, { recursive: true })
  const size = dtype === 'BF16' ? 2 : 4
  const header: Record<string, unknown> = {}
  let end = 0
  for (let layer = 0; layer < model.numLayers; layer++) {
    for (const module of modules) {
      const { inner, outer } = moduleShape(model, module)
      const block = /gate|up|down/.test(module) ? 'mlp' : 'self_attn'
      for (const [side, shape] of [
        ['A', [rank, inner]],
        ['B', [outer, rank]],
      ] as const) {
        const name = `base_model.model.model.layers.${layer}.${block}.${module}.lora_${side}.weight`
        const bytes = shape[0] * shape[1] * size
        header[name] = { dtype, shape, data_offsets: [end, end + bytes] }
        end += bytes
      }
    }
  }
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  const file = openSync(join(partial, 'adapter_model.safetensors'), 'w')
  writeSync(file, length)
  writeSync(file, json)
  const noise = dtype === 'BF16' ? bfloat16Noise(seed) : float32Noise(seed)
  for (let left = end; left > 0; left -= noise.length) {
    writeSync(file, noise.subarray(0, Math.min(left, noise.length)))
  }
  closeSync(file)
  writeFileSync(
    join(partial, 'adapter_config.json'),
    JSON.stringify({
      peft_type: 'LORA',
      task_type: 'CAUSAL_LM',
      r: rank,
      lora_alpha: 16,
      target_modules: modules,
      bias: 'none',
      use_dora: false,
      rank_pattern: {},
      alpha_pattern: {},
    }),
  )
  renameSync(partial, join(root, id))
}

/** A model of that shape, as far as adapters go. */
export function configOf(shape: Shape): ModelConfig {
  return {
    architecture: shape.family === 'qwen2' ? 'Qwen2ForCausalLM' : 'LlamaForCausalLM',
    hiddenSize: shape.hidden,
    intermediateSize: shape.intermediate,
    numLayers: shape.layers,
    numHeads: shape.heads,
    numKvHeads: shape.kvHeads,
    headDim: shape.hidden / shape.heads,
    vocabSize: shape.vocab,
    maxPosition: 32768,
    ropeTheta: shape.ropeTheta,
    ropeScaling: null,
    rmsNormEps: 1e-6,
    tieWordEmbeddings: shape.tied,
    qkvBias: shape.family === 'qwen2',
    outputBias: false,
    mlpBias: false,
  }
}

/** Uniform in ±0.01; 256 KiB of it are repeated. */
function float32Noise(seed: number): Buffer {
  const values = new Float32Array(1 << 16)
  let state = (seed * 2654435761 + 1) >>> 0
  for (let i = 0; i < values.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    values[i] = 0.01 * (state / 2 ** 31 - 1)
  }
  return Buffer.from(values.buffer)
}

function bfloat16Noise(seed: number): Buffer {
  const words = new Uint32Array(new Uint8Array(float32Noise(seed)).buffer)
  return Buffer.from(Uint16Array.from(words, (word) => word >>> 16).buffer)
}
