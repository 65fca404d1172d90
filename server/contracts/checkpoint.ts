// A Hugging Face checkpoint's configuration, as the graph and the engine use it.

export type Architecture = 'Qwen2ForCausalLM' | 'LlamaForCausalLM'

export interface Llama3RopeScaling {
  readonly kind: 'llama3'
  readonly factor: number
  readonly lowFreqFactor: number
  readonly highFreqFactor: number
  readonly originalMaxPosition: number
}

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
  readonly ropeScaling: Llama3RopeScaling | null
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
  readonly eosTokenIds: readonly number[]
  readonly temperature: number
  readonly topP: number
  /** 0 keeps every token. */
  readonly topK: number
}

/** Reads one weight of the checkpoint as float32, row-major, whatever its stored type. */
export interface TensorSource {
  has(name: string): boolean
  shape(name: string): readonly number[]
  read(name: string): Float32Array
}
