// A PEFT LoRA folder as rank-1 components, validated wholly before anything is made of it. Only
// safetensors are read; what a pickle holds is never looked at.

import { createHash } from 'node:crypto'
import type { ModelConfig } from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'
import { type SafetensorsFile, safetensorsFromBuffer } from '../model/safetensors.ts'
import type { Rank1Component } from './bank.ts'
import { type AdapterFiles, readAdapterFiles } from './files.ts'
import { parsePeftConfig } from './peft-config.ts'

export interface LoadedAdapter {
  /** SHA-256 over the canonical adapter_config.json and the bytes of adapter_model.safetensors. */
  readonly digest: string
  readonly rank: number
  readonly targetModules: readonly string[]
  /** Layers with an adapted module. */
  readonly numLayers: number
  readonly components: readonly Rank1Component[]
}

const keyPattern =
  /^(?:base_model\.model\.)?model\.layers\.(\d{1,5})\.(mlp|self_attn)\.(\w+)\.lora_([AB])\.weight$/
const knownModules = new Set([
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
])

/** Reads and checks a folder inside `root`. Throws ServerError. */
export async function readPeftAdapter(
  root: string,
  name: string,
  model: ModelConfig,
): Promise<LoadedAdapter> {
  return parsePeftAdapter(await readAdapterFiles(root, name), model)
}

export function parsePeftAdapter(files: AdapterFiles, model: ModelConfig): LoadedAdapter {
  const config = parsePeftConfig(files.config)
  const tensors = safetensorsFromBuffer(files.tensors, {
    code: 'invalid_adapter',
    label: 'adapter_model.safetensors',
  })
  const sites = collectSites(tensors, model)
  const ranks = [...sites.values()].map(({ rank }) => rank)
  const rank = Math.max(...ranks)
  for (const site of sites.values()) {
    const declared = config.rankOf(site.module)
    if (declared !== site.rank) {
      invalid(
        `adapter_config.json gives ${site.module} rank ${declared}; its tensors have ${site.rank}`,
      )
    }
  }

  const components = Array.from({ length: rank }, (_, k) => {
    const a: (Float32Array | null)[] = Array(model.numLayers).fill(null)
    const b: (Float32Array | null)[] = Array(model.numLayers).fill(null)
    for (const [layer, site] of sites) {
      if (k >= site.rank) continue
      const scaling = config.scalingOf(site.module, site.rank)
      a[layer] = site.a.slice(k * model.hiddenSize, (k + 1) * model.hiddenSize)
      b[layer] = Float32Array.from(
        { length: model.intermediateSize },
        (_, i) => scaling * (site.b[i * site.rank + k] as number),
      )
    }
    return { a, b }
  })
  return {
    digest: digestOf(files),
    rank,
    targetModules: ['up_proj'],
    numLayers: sites.size,
    components,
  }
}

interface Site {
  readonly module: string
  readonly rank: number
  /** [rank, hidden] */
  readonly a: Float32Array
  /** [intermediate, rank] */
  readonly b: Float32Array
}

/** Layer → its adapted up_proj. */
function collectSites(tensors: SafetensorsFile, model: ModelConfig): Map<number, Site> {
  const pairs = new Map<number, { module: string; A?: string; B?: string }>()
  const unserved = new Set<string>()
  for (const key of tensors.tensors.keys()) {
    const match = keyPattern.exec(key)
    if (match === null) refuseKey(key)
    const [, layerText, block, name = '', side] = match
    const layer = Number(layerText)
    if (!knownModules.has(name)) invalid(`${JSON.stringify(key)}: there is no module ${name}`)
    if (layer >= model.numLayers) {
      invalid(`${JSON.stringify(key)}: the model has layers 0 to ${model.numLayers - 1}`)
    }
    if (name !== 'up_proj' || block !== 'mlp') {
      unserved.add(name)
      continue
    }
    const pair = pairs.get(layer) ?? { module: `model.layers.${layer}.mlp.up_proj` }
    if (pair[side as 'A' | 'B'] !== undefined) invalid(`${JSON.stringify(key)}: given twice`)
    pair[side as 'A' | 'B'] = key
    pairs.set(layer, pair)
  }
  if (unserved.size > 0) {
    throw new ServerError(
      'unsupported_adapter',
      `The adapter changes ${[...unserved].sort().join(', ')}; only up_proj is served. ` +
        'Train with target_modules ["up_proj"], or merge this adapter into the checkpoint.',
    )
  }
  if (pairs.size === 0) invalid('adapter_model.safetensors holds no LoRA tensors')

  const sites = new Map<number, Site>()
  for (const [layer, { module, A, B }] of pairs) {
    if (A === undefined) invalid(`${module}: lora_B is there without lora_A`)
    if (B === undefined) invalid(`${module}: lora_A is there without lora_B`)
    const rank = tensors.tensors.get(A)?.shape[0] ?? 0
    if (rank < 1) invalid(`${module}: lora_A has rank 0; at least 1 is needed`)
    checkShape(tensors, A, [rank, model.hiddenSize])
    checkShape(tensors, B, [model.intermediateSize, rank])
    sites.set(layer, { module, rank, a: readFinite(tensors, A), b: readFinite(tensors, B) })
  }
  return sites
}

function refuseKey(key: string): never {
  const feature = [
    ['lora_magnitude_vector', 'DoRA'],
    ['lora_embedding_', 'an adapted embedding'],
    ['.bias', 'a bias'],
    ['modules_to_save', 'modules_to_save'],
  ].find(([part]) => key.includes(part as string))?.[1]
  const shown = JSON.stringify(key.slice(0, 160))
  if (feature !== undefined) {
    throw new ServerError('unsupported_adapter', `${shown}: ${feature} is not served.`)
  }
  return invalid(`${shown}: not a LoRA tensor of this model's layers`)
}

function checkShape(tensors: SafetensorsFile, key: string, expected: readonly number[]): void {
  const shape = tensors.tensors.get(key)?.shape ?? []
  if (shape.length === expected.length && shape.every((dim, i) => dim === expected[i])) return
  invalid(`${JSON.stringify(key)}: the model needs shape [${expected}]; got [${shape}]`)
}

function readFinite(tensors: SafetensorsFile, key: string): Float32Array {
  const values = tensors.readFloat32(key)
  if (!values.every(Number.isFinite)) invalid(`${JSON.stringify(key)}: holds NaN or infinity`)
  return values
}

function invalid(message: string): never {
  throw new ServerError('invalid_adapter', `${message}.`)
}

function digestOf(files: AdapterFiles): string {
  return createHash('sha256')
    .update(canonicalJson(files.config))
    .update(files.tensors)
    .digest('hex')
}

/** Keys sorted, no white space: the same configuration gives the same text. */
function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).sort(([x], [y]) => (x < y ? -1 : 1))
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`
  }
  return JSON.stringify(value)
}
