// A small guard of random numbers, written as the trainer writes one, for tests of what reads it.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LinearModule, ModelConfig } from '../../server/contracts/checkpoint.ts'
import { encodeSafetensors, loraTensors, pseudoRandom, writeAdapter } from './tensor-files.ts'

export interface TestGuard {
  readonly model: ModelConfig
  readonly baseDigest: string
  readonly token: number
  readonly labels: { readonly safe: number; readonly unsafe: number }
  readonly rank?: number
  readonly modules?: readonly LinearModule[]
  /** Changes to the manifest's field `guard`. */
  readonly guard?: Readonly<Record<string, unknown>>
  /** Changes to the manifest. */
  readonly manifest?: Readonly<Record<string, unknown>>
  /** Changes to adapter_config.json. */
  readonly config?: Readonly<Record<string, unknown>>
  /** Of the probe; null: no such file. */
  readonly direction?: Float32Array | null
}

export const guardModules = ['q_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const

export function writeGuard(root: string, id: string, options: TestGuard): string {
  const { model, baseDigest, token, labels, rank = 4, modules = guardModules } = options
  const { direction = pseudoRandom(model.hiddenSize, 5) } = options
  const layers = Array.from({ length: model.numLayers }, (_, layer) => layer)
  const dir = writeAdapter(root, id, {
    config: {
      r: rank,
      lora_alpha: 0.2 * Math.sqrt(rank),
      target_modules: modules,
      alora_invocation_tokens: [token],
      ...options.config,
    },
    tensors: loraTensors({ rank, layers, modules, seed: 7, model }),
    manifest: {
      kind: 'guard',
      base_digest: baseDigest,
      guard: {
        token,
        labels,
        temperature: 1.5,
        threshold: 0.6,
        carriers: [{ adapters: [], auroc: 0.9, temperature: 1.2, threshold: 0.55, n: 100 }],
        probe: {
          layer: 1,
          site: 'residual',
          tensor: 'probe.weight',
          bias: -0.5,
          temperature: 2,
          threshold: 0.8,
          auroc: 0.8,
        },
        ...options.guard,
      },
      ...options.manifest,
    },
  })
  if (direction !== null) {
    const weight = { shape: [1, direction.length], data: direction }
    writeFileSync(join(dir, 'probe.safetensors'), encodeSafetensors({ 'probe.weight': weight }))
  }
  return dir
}
