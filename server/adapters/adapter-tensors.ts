// The tensors of a PEFT LoRA file: pairs lora_A [r, in] and lora_B [out, r] per adapted module.
// A plan is made from names and shapes alone, before any weight is read.

import type { SafetensorsFile } from '../checkpoint/safetensors.ts'
import type { TensorInfo } from '../checkpoint/safetensors-header.ts'
import type { ModuleUpdate, RankOne } from '../contracts/adapter.ts'
import { type LinearModule, type ModelConfig, moduleShape } from '../contracts/checkpoint.ts'
import { quoteName } from '../contracts/printable.ts'
import { ServerError } from '../errors.ts'
import type { AdapterConfig } from './adapter-config.ts'

/** One adapted module of one layer, as the file holds it. */
interface AdaptedModule {
  readonly layer: number
  readonly module: LinearModule
  /** "model.layers.3.mlp.up_proj" */
  readonly path: string
  readonly rank: number
  readonly keyA: string
  readonly keyB: string
}

export interface AdapterPlan {
  readonly modules: readonly AdaptedModule[]
  readonly rank: number
}

const keyPattern =
  /^(?:base_model\.model\.)?(model\.layers\.(0|[1-9]\d{0,4})\.((?:self_attn|mlp)\.[a-z_]+))\.lora_([AB])\.weight$/
const modulePaths = new Map<string, LinearModule>([
  ['self_attn.q_proj', 'q_proj'],
  ['self_attn.k_proj', 'k_proj'],
  ['self_attn.v_proj', 'v_proj'],
  ['self_attn.o_proj', 'o_proj'],
  ['mlp.gate_proj', 'gate_proj'],
  ['mlp.up_proj', 'up_proj'],
  ['mlp.down_proj', 'down_proj'],
])
const pathOf = new Map([...modulePaths].map(([path, module]) => [module, path]))

/** "model.layers.3.mlp.up_proj" */
export function pathOfModule(layer: number, module: LinearModule): string {
  return `model.layers.${layer}.${pathOf.get(module)}`
}

/** Parts of keys that other PEFT features leave, and the feature. */
const foreignKeys = [
  ['lora_embedding_', 'adapted embeddings'],
  ['embed_tokens', 'adapted or saved embeddings'],
  ['lm_head', 'an adapted or saved lm_head'],
  ['lora_magnitude_vector', 'DoRA'],
  ['.bias', 'biases'],
  ['modules_to_save', 'modules_to_save'],
  ['trainable_tokens', 'trainable tokens'],
  ['token_adapter', 'trainable tokens'],
  ['layernorm', 'adapted or saved norms'],
  ['.norm.', 'adapted or saved norms'],
] as const
/** A whole weight of the model, saved beside or instead of an update of it. */
const savedWeight = /(^|\.)(self_attn|mlp)\.[a-z_]+(\.base_layer)?\.weight$/
const floatDtypes = new Set(['F32', 'F16', 'BF16', 'F64'])

export function planTensors(
  tensors: ReadonlyMap<string, TensorInfo>,
  config: AdapterConfig,
  model: ModelConfig,
): AdapterPlan {
  const pairs = pairKeys(tensors, model)
  const modules = [...pairs].map(([path, { layer, module, A, B }]) => {
    if (A === undefined) return invalid(B!, 'has no lora_A beside it')
    if (B === undefined) return invalid(A, 'has no lora_B beside it')
    const rank = config.rankOf(path)
    const { inner, outer } = moduleShape(model, module)
    checkTensor(A, tensors.get(A)!, [rank, inner], 0)
    checkTensor(B, tensors.get(B)!, [outer, rank], 1)
    return { layer, module, path, rank, keyA: A, keyB: B }
  })
  if (modules.length === 0) {
    throw new ServerError('invalid_adapter', 'adapter_model.safetensors holds no LoRA tensors.')
  }
  return { modules, rank: Math.max(...modules.map(({ rank }) => rank)) }
}

/** One adapted module of one layer: `rank` vector pairs, one after the other. */
export interface AdapterMatrices {
  readonly layer: number
  readonly module: LinearModule
  readonly rank: number
  /** [rank, inner] */
  readonly a: Float32Array
  /** [rank, outer], the scaling alpha/r folded in. */
  readonly b: Float32Array
}

/** Reads and checks the planned tensors. */
export function readMatrices(
  plan: AdapterPlan,
  file: SafetensorsFile,
  config: AdapterConfig,
): AdapterMatrices[] {
  return plan.modules.map(({ layer, module, path, rank, keyA, keyB }) => {
    const a = requireFinite(keyA, file.readFloat32(keyA))
    const matrixB = requireFinite(keyB, file.readFloat32(keyB)) // [outer, rank]
    const b = requireFinite(keyB, transposeScaled(matrixB, rank, config.scalingOf(path)))
    return { layer, module, rank, a, b }
  })
}

/** The same as rank-1 components: views, not copies. */
export function componentsOf(matrices: readonly AdapterMatrices[]): readonly RankOne[] {
  const numComponents = Math.max(...matrices.map(({ rank }) => rank))
  const components: ModuleUpdate[][] = Array.from({ length: numComponents }, () => [])
  for (const { layer, module, rank, a, b } of matrices) {
    const inner = a.length / rank
    const outer = b.length / rank
    for (let k = 0; k < rank; k++) {
      components[k]!.push({
        layer,
        module,
        a: a.subarray(k * inner, (k + 1) * inner),
        b: b.subarray(k * outer, (k + 1) * outer),
      })
    }
  }
  return components
}

function transposeScaled(matrix: Float32Array, columns: number, scaling: number): Float32Array {
  const rows = matrix.length / columns
  const transposed = new Float32Array(matrix.length)
  for (let row = 0; row < rows; row++) {
    for (let k = 0; k < columns; k++) {
      transposed[k * rows + row] = scaling * matrix[row * columns + k]!
    }
  }
  return transposed
}

interface Pair {
  readonly layer: number
  readonly module: LinearModule
  A?: string
  B?: string
}

/** Module path → its two keys. Refuses every key that is not one of a linear module of a layer. */
function pairKeys(tensors: ReadonlyMap<string, TensorInfo>, model: ModelConfig): Map<string, Pair> {
  const pairs = new Map<string, Pair>()
  for (const key of tensors.keys()) {
    const match = keyPattern.exec(key)
    if (!match) return refuseKey(key)
    const path = match[1]!
    const layer = Number(match[2])
    const side = match[4] === 'A' ? 'A' : 'B'
    if (layer >= model.numLayers) {
      invalid(key, `names layer ${layer}; the model has layers 0 to ${model.numLayers - 1}`)
    }
    const module = modulePaths.get(match[3]!)
    if (module === undefined) return invalid(key, 'names a module that the model does not have')
    const pair = pairs.get(path) ?? { layer, module }
    if (pair[side] !== undefined) invalid(key, 'is given twice, with and without its prefix')
    pair[side] = key
    pairs.set(path, pair)
  }
  return pairs
}

function refuseKey(key: string): never {
  const foreign = foreignKeys.find(([part]) => key.includes(part))?.[1]
  const feature = foreign ?? (savedWeight.test(key) ? 'saved full weights' : undefined)
  if (feature === undefined) return invalid(key, 'is not a LoRA tensor of this model')
  throw new ServerError(
    'unsupported_adapter',
    `adapter_model.safetensors: ${quoteName(key)} belongs to a feature that is not supported: ${feature}.`,
  )
}

/** `rankAxis` is the axis of the rank, so that a wrong rank is told from a wrong model. */
function checkTensor(key: string, tensor: TensorInfo, shape: number[], rankAxis: 0 | 1): void {
  if (!floatDtypes.has(tensor.dtype)) {
    throw new ServerError(
      'unsupported_adapter',
      `adapter_model.safetensors: ${quoteName(key)} is ${tensor.dtype}; F32, F16, BF16 or F64 is needed.`,
    )
  }
  if (tensor.shape.join() === shape.join()) return
  const isOnlyRank = tensor.shape.length === 2 && tensor.shape[1 - rankAxis] === shape[1 - rankAxis]
  if (isOnlyRank) {
    invalid(
      key,
      `has rank ${tensor.shape[rankAxis]}; adapter_config.json says r=${shape[rankAxis]}`,
    )
  }
  invalid(key, `is [${tensor.shape}]; this model needs [${shape}]`)
}

function requireFinite(key: string, values: Float32Array): Float32Array {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i]))
      invalid(key, 'holds NaN or infinite values, as stored or scaled')
  }
  return values
}

function invalid(key: string, clause: string): never {
  throw new ServerError(
    'invalid_adapter',
    `adapter_model.safetensors: ${quoteName(key)} ${clause}.`,
  )
}
