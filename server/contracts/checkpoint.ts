// A Hugging Face checkpoint's configuration, as the graph and the engine use it.

import type { FloatName, FloatType } from './float-type.ts'
import type { SamplingParams } from './generation.ts'

export type Architecture = 'Qwen2ForCausalLM' | 'LlamaForCausalLM'

export interface Llama3RopeScaling {
  readonly kind: 'llama3'
  readonly factor: number
  readonly lowFreqFactor: number
  readonly highFreqFactor: number
  readonly originalMaxPosition: number
}

/** Every frequency is slowed by `factor`. */
interface LinearRopeScaling {
  readonly kind: 'linear'
  readonly factor: number
}

/** Slow frequencies are slowed by `factor`, fast ones kept, those between are mixed. */
export interface YarnRopeScaling {
  readonly kind: 'yarn'
  readonly factor: number
  /** Multiplies cos and sin. */
  readonly attentionFactor: number
  /** Turns within originalMaxPosition above which a frequency is kept, below which it is slowed. */
  readonly betaFast: number
  readonly betaSlow: number
  readonly originalMaxPosition: number
  /** The ramp between the two begins and ends on whole dimensions. */
  readonly truncate: boolean
}

export type RopeScaling = LinearRopeScaling | Llama3RopeScaling | YarnRopeScaling

export interface ModelConfig {
  readonly architecture: Architecture
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly numLayers: number
  readonly numHeads: number
  readonly numKvHeads: number
  readonly headDim: number
  readonly vocabSize: number
  readonly maxPosition: number
  readonly ropeTheta: number
  readonly ropeScaling: RopeScaling | null
  readonly rmsNormEps: number
  /** lm_head shares the embedding matrix. */
  readonly tieWordEmbeddings: boolean
  /** q, k and v projections carry a bias (Qwen2 always; Llama when attention_bias). */
  readonly qkvBias: boolean
  /** o_proj carries a bias (Llama with attention_bias). */
  readonly outputBias: boolean
  /** gate, up and down carry a bias (Llama with mlp_bias). */
  readonly mlpBias: boolean
}

export interface GenerationDefaults {
  /** Of config.json and generation_config.json together. */
  readonly eosTokenIds: readonly number[]
  readonly sampling: SamplingDefaults
  /** Settings of generation_config.json that would change answers and are not applied. */
  readonly unsupported: readonly string[]
}

/** How tokens are chosen where a request is silent. */
export type SamplingDefaults = Pick<
  SamplingParams,
  | 'temperature'
  | 'topP'
  | 'topK'
  | 'minP'
  | 'presencePenalty'
  | 'frequencyPenalty'
  | 'repetitionPenalty'
>

/** Reads one weight of the checkpoint as float32, row-major, whatever its stored type. */
export interface TensorSource {
  has(name: string): boolean
  shape(name: string): readonly number[]
  read(name: string): Float32Array
  /** Rows first … first + count − 1 of a matrix, so that large ones are never whole in memory. */
  readRows(name: string, first: number, count: number): Float32Array
  /** A matrix as its file holds it, where files keep numbers in formats of blocks. */
  stored?(name: string): StoredMatrix
}

export interface StoredMatrix {
  /** GGUF's name for the format: Q4_0, F16 … */
  readonly type: string
  /** The bytes of whole rows. */
  readonly readRows: (first: number, count: number) => Uint8Array
}

/** The linear modules of a decoder layer that a LoRA may change, in the order of a layer. */
export const linearModules = [
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
] as const
export type LinearModule = (typeof linearModules)[number]

/** The linear modules among these names, each once, in the order of a layer. */
export function inLayerOrder(...lists: readonly (readonly string[])[]): readonly LinearModule[] {
  return linearModules.filter((module) => lists.some((list) => list.includes(module)))
}

/** The weight of a module is [outer, inner]. */
export function moduleShape(
  config: ModelConfig,
  module: LinearModule,
): { readonly inner: number; readonly outer: number } {
  const { hiddenSize, intermediateSize, headDim } = config
  const query = config.numHeads * headDim
  const keyValue = config.numKvHeads * headDim
  switch (module) {
    case 'q_proj':
      return { inner: hiddenSize, outer: query }
    case 'k_proj':
    case 'v_proj':
      return { inner: hiddenSize, outer: keyValue }
    case 'o_proj':
      return { inner: query, outer: hiddenSize }
    case 'gate_proj':
    case 'up_proj':
      return { inner: hiddenSize, outer: intermediateSize }
    case 'down_proj':
      return { inner: intermediateSize, outer: hiddenSize }
  }
}

/** Where a direction is compared with what a layer holds of a token. */
export interface ProbePlace {
  readonly layer: number
  /** residual: the residual stream after that layer. mlp_output: what its MLP adds to the stream. */
  readonly site: 'residual' | 'mlp_output'
}

/** What a graph is built for, and what runs it: on an accelerator none of its tensors may be empty. */
export interface GraphTarget {
  readonly operators: 'cpu' | 'accelerator'
  /** What the graph computes in: activations, adapters, norms and scales. */
  readonly floats: FloatType
  /** Of keys and values. Others than `floats` only our own operators can read. */
  readonly cacheFloats: FloatType
  readonly kernels: Kernels
}

/**
 * Whose operators multiply with quantised weights, attend, add adapters and gate. Our own are for CPUs,
 * and give a row the same numbers in any batch.
 */
export type Kernels = 'own' | 'onnxruntime'

export const cpuTarget: GraphTarget = {
  operators: 'cpu',
  floats: 'float32',
  cacheFloats: 'float32',
  kernels: 'onnxruntime',
}

export type QuantizedBits = 4 | 8
export const blockSizes = [32, 64, 128] as const
export type BlockSize = (typeof blockSizes)[number]

/** How the graph holds the large weights. */
export type WeightFormat =
  /** fp16 only with activations in float16. */
  | { readonly kind: FloatName }
  | QuantizedFormat
  /** Each matrix in the numbers of its file, where they fit; others in 8 bits. Own kernels only. */
  | { readonly kind: 'stored' }

/** Integers in blocks along a row, each block with a scale. */
export interface QuantizedFormat {
  readonly kind: 'quantized'
  readonly bits: QuantizedBits
  readonly block: BlockSize
  /** Each block has its own integer for zero; else zero is the middle of the range. */
  readonly zeroPoints: boolean
  /** Each block's scale is the one of least squared error among some, not the largest value's. */
  readonly searchScales: boolean
}
