// Writes rank-1 up_proj adapters of a shape with random numbers, as PEFT folders.

import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Shape } from './shapes.ts'

export function adapterName(index: number): string {
  return `random-${String(index).padStart(4, '0')}`
}

export const adapterAlpha = 16

/** The vectors of one layer: a is lora_A [1, hidden], b is lora_B [intermediate, 1]. */
export interface AdapterLayer {
  readonly a: Float32Array
  readonly b: Float32Array
}

/** The same numbers for the same index, whoever asks. */
export function randomAdapter(shape: Shape, index: number): readonly AdapterLayer[] {
  const uniform = createUniform(index + 1)
  function vector(length: number, size: number) {
    return Float32Array.from({ length }, () => size * (2 * uniform() - 1))
  }

  return Array.from({ length: shape.layers }, () => ({
    a: vector(shape.hidden, 1 / Math.sqrt(shape.hidden)),
    b: vector(shape.intermediate, 0.01),
  }))
}

function createUniform(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b1) | 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

/** Makes the adapters root/random-0000 … that are not there yet. */
export function writeRandomAdapters(shape: Shape, count: number, root: string): void {
  for (let index = 0; index < count; index++) {
    const folder = join(root, adapterName(index))
    if (!existsSync(folder)) writePeftFolder(folder, randomAdapter(shape, index))
  }
}

function writePeftFolder(folder: string, layers: readonly AdapterLayer[]): void {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } }
  const parts: Uint8Array[] = []
  let end = 0
  function add(name: string, shape: readonly number[], values: Float32Array) {
    header[name] = { dtype: 'F32', shape, data_offsets: [end, end + values.byteLength] }
    end += values.byteLength
    parts.push(new Uint8Array(values.buffer))
  }
  for (const [layer, { a, b }] of layers.entries()) {
    const prefix = `base_model.model.model.layers.${layer}.mlp.up_proj`
    add(`${prefix}.lora_A.weight`, [1, a.length], a)
    add(`${prefix}.lora_B.weight`, [b.length, 1], b)
  }
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  const partial = `${folder}.partial`
  mkdirSync(partial, { recursive: true })
  writeFileSync(join(partial, 'adapter_model.safetensors'), Buffer.concat([length, json, ...parts]))
  writeFileSync(
    join(partial, 'adapter_config.json'),
    JSON.stringify({
      peft_type: 'LORA',
      task_type: 'CAUSAL_LM',
      base_model_name_or_path: 'random',
      r: 1,
      lora_alpha: adapterAlpha,
      lora_dropout: 0,
      bias: 'none',
      target_modules: ['up_proj'],
      inference_mode: true,
    }),
  )
  renameSync(partial, folder)
}
