// The decoder of the Qwen2 and Llama families as an ONNX graph, float32.
//
//   input_ids [rows, tokens] ─ embed ─┬─ layer 0 … layer L−1 ─ norm ─ last token ─ lm_head ─ logits
//                                     │
//   layer:  h ─ norm ─ qkv ─ GroupQueryAttention(KV in place) ─ o ─ (+h) ─ norm ─ mlp ─ (+)
//   mlp:    gate_up ─ split ─ silu(gate) · (up + adapter) ─ down
//
// Inputs that vary: rows (sequences), tokens (new tokens of each), capacity (KV positions per row),
// slots (adapter components in the bank), components (adapter components on a row).

import type { ModelConfig, TensorSource } from '../contracts/checkpoint.ts'
import { createGraphBuilder, type Graph, type GraphBuilder } from './builder.ts'
import { rotaryTable } from './rope.ts'

export interface DecoderOptions {
  readonly config: ModelConfig
  readonly tensors: TensorSource
  /** Positions the rotary tables cover. */
  readonly maxContext: number
}

export const pastKey = (layer: number) => `past.${layer}.key`
export const pastValue = (layer: number) => `past.${layer}.value`
export const presentKey = (layer: number) => `present.${layer}.key`
export const presentValue = (layer: number) => `present.${layer}.value`
export const bankA = (layer: number) => `bank.${layer}.up.a`
export const bankB = (layer: number) => `bank.${layer}.up.b`

export function buildDecoder({ config, tensors, maxContext }: DecoderOptions): Graph {
  const graph = createGraphBuilder()
  const hidden = config.hiddenSize
  const context = { graph, config, tensors }

  const ids = graph.input('input_ids', 'int64', ['rows', 'tokens'])
  graph.input('seqlens_k', 'int32', ['rows'])
  graph.input('total_sequence_length', 'int32', [])
  graph.input('adapter_slots', 'int64', ['rows', 'components'])
  graph.input('adapter_scales', 'float32', ['rows', 'components'])
  graph.weight('rope.cos', [maxContext, config.headDim / 2], () =>
    rotaryTable(config, maxContext, Math.cos),
  )
  graph.weight('rope.sin', [maxContext, config.headDim / 2], () =>
    rotaryTable(config, maxContext, Math.sin),
  )

  const embeddings = graph.weight('embed', [config.vocabSize, hidden], () =>
    tensors.read('model.embed_tokens.weight'),
  )
  let residual = graph.node('/embed', 'Gather', [embeddings, ids])
  let normed = graph.node(
    '/layers.0/input_norm',
    'SimplifiedLayerNormalization',
    [residual, normWeight(context, 'model.layers.0.input_layernorm.weight')],
    { attributes: { epsilon: { float: config.rmsNormEps }, axis: -1, stash_type: 1 } },
  )
  for (let layer = 0; layer < config.numLayers; layer++) {
    const address = `/layers.${layer}`
    const attended = attention(context, layer, normed)
    const afterAttention = addAndNorm(context, `${address}/post_attention`, {
      input: attended,
      residual,
      weight: `model.layers.${layer}.post_attention_layernorm.weight`,
    })
    const output = mlp(context, layer, afterAttention.normed)
    const isLast = layer + 1 === config.numLayers
    const next = addAndNorm(context, `${address}/output`, {
      input: output,
      residual: afterAttention.sum,
      weight: isLast ? 'model.norm.weight' : `model.layers.${layer + 1}.input_layernorm.weight`,
    })
    residual = next.sum
    normed = next.normed
  }

  // Only the last token's logits are ever sampled from.
  const last = graph.node('/last_token', 'Slice', [
    normed,
    graph.constant('int64', [-1]),
    graph.constant('int64', [Number.MAX_SAFE_INTEGER]),
    graph.constant('int64', [1]),
  ])
  const head = config.tieWordEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight'
  linear(context, { name: '/lm_head', input: last, weights: [head], outputName: 'logits' })
  graph.output('logits', 'float32', ['rows', 1, config.vocabSize])
  return graph.build()
}

interface Context {
  readonly graph: GraphBuilder
  readonly config: ModelConfig
  readonly tensors: TensorSource
}

function normWeight({ graph, config, tensors }: Context, name: string): string {
  return graph.weight(name, [config.hiddenSize], () => tensors.read(name))
}

/** y = x Wᵀ (+ bias) with the rows of several weights stacked: one product instead of many. */
function linear(
  { graph, config, tensors }: Context,
  options: {
    name: string
    input: string
    weights: readonly string[]
    biases?: readonly string[]
    outputName?: string
  },
): string {
  const { name, input, weights, biases = [], outputName } = options
  const inner = tensors.shape(weights[0] ?? '')[1] ?? config.hiddenSize
  const outer = weights.reduce((sum, weight) => sum + (tensors.shape(weight)[0] ?? 0), 0)
  const matrix = graph.weight(`${name}.weight`, [inner, outer], () => {
    const transposed = new Float32Array(inner * outer)
    let column = 0
    for (const weight of weights) {
      const rows = tensors.shape(weight)[0] ?? 0
      transposeInto(transposed, tensors.read(weight), { rows, inner, outer, column })
      column += rows
    }
    return transposed
  })
  const hasBias = biases.length > 0
  const product = graph.node(hasBias ? `${name}/product` : name, 'MatMul', [input, matrix], {
    ...(outputName && !hasBias ? { outputs: [outputName] } : {}),
  })
  if (!hasBias) return product
  const bias = graph.weight(`${name}.bias`, [outer], () => {
    const parts = biases.map((weight) => tensors.read(weight))
    const joined = new Float32Array(outer)
    let offset = 0
    for (const part of parts) {
      joined.set(part, offset)
      offset += part.length
    }
    return joined
  })
  return graph.node(name, 'Add', [product, bias])
}

function transposeInto(
  target: Float32Array,
  source: Float32Array,
  at: { rows: number; inner: number; outer: number; column: number },
): void {
  for (let row = 0; row < at.rows; row++) {
    const base = row * at.inner
    for (let i = 0; i < at.inner; i++) {
      target[i * at.outer + at.column + row] = source[base + i] ?? 0
    }
  }
}

/** sum = input + residual; normed = RMSNorm(sum). */
function addAndNorm(
  context: Context,
  address: string,
  options: { input: string; residual: string; weight: string },
): { normed: string; sum: string } {
  const outputs = [`${address}/norm`, '', '', `${address}/sum`]
  context.graph.node(
    `${address}/norm`,
    'SkipSimplifiedLayerNormalization',
    [options.input, options.residual, normWeight(context, options.weight)],
    {
      domain: 'com.microsoft',
      outputs,
      attributes: { epsilon: { float: context.config.rmsNormEps } },
    },
  )
  return { normed: `${address}/norm`, sum: `${address}/sum` }
}

/** KV past and present are bound to one tensor: the operator appends in place. */
function attention(context: Context, layer: number, input: string): string {
  const { graph, config } = context
  const prefix = `model.layers.${layer}.self_attn`
  const address = `/layers.${layer}/attn`
  const projections = ['q_proj', 'k_proj', 'v_proj'].map((name) => `${prefix}.${name}`)
  const qkv = linear(context, {
    name: `${address}/qkv`,
    input,
    weights: projections.map((name) => `${name}.weight`),
    biases: config.qkvBias ? projections.map((name) => `${name}.bias`) : [],
  })
  const cache = ['rows', config.numKvHeads, 'capacity', config.headDim]
  const attended = graph.node(
    address,
    'GroupQueryAttention',
    [
      qkv,
      '',
      '',
      graph.input(pastKey(layer), 'float32', cache),
      graph.input(pastValue(layer), 'float32', cache),
      'seqlens_k',
      'total_sequence_length',
      'rope.cos',
      'rope.sin',
    ],
    {
      domain: 'com.microsoft',
      outputs: [
        address,
        graph.output(presentKey(layer), 'float32', cache),
        graph.output(presentValue(layer), 'float32', cache),
      ],
      attributes: {
        num_heads: config.numHeads,
        kv_num_heads: config.numKvHeads,
        do_rotary: 1,
        rotary_interleaved: 0,
        scale: { float: 1 / Math.sqrt(config.headDim) },
      },
    },
  )
  return linear(context, {
    name: `${address}/o`,
    input: attended,
    weights: [`${prefix}.o_proj.weight`],
    biases: config.outputBias ? [`${prefix}.o_proj.bias`] : [],
  })
}

function mlp(context: Context, layer: number, input: string): string {
  const { graph, config } = context
  const prefix = `model.layers.${layer}.mlp`
  const address = `/layers.${layer}/mlp`
  const projections = ['gate_proj', 'up_proj'].map((name) => `${prefix}.${name}`)
  const gateUp = linear(context, {
    name: `${address}/gate_up`,
    input,
    weights: projections.map((name) => `${name}.weight`),
    biases: config.mlpBias ? projections.map((name) => `${name}.bias`) : [],
  })
  graph.node(`${address}/split`, 'Split', [gateUp], {
    outputs: [`${address}/gate`, `${address}/up_base`],
    attributes: { axis: -1, num_outputs: 2 },
  })
  const up = adapted(context, layer, { input, base: `${address}/up_base` })
  const gate = graph.node(`${address}/silu`, 'QuickGelu', [`${address}/gate`], {
    domain: 'com.microsoft',
    attributes: { alpha: { float: 1 } },
  })
  const product = graph.node(`${address}/product`, 'Mul', [gate, up])
  return linear(context, {
    name: `${address}/down`,
    input: product,
    weights: [`${prefix}.down_proj.weight`],
    biases: config.mlpBias ? [`${prefix}.down_proj.bias`] : [],
  })
}

/**
 * Adds each row's adapter: base + Σᵣ scaleᵣ · bᵣ (aᵣ · x), the rank-1 components gathered from the
 * bank by slot. Slot 0 holds zeros. The dot products are a Mul and a ReduceSum because a row's sums
 * then do not depend on how many components its neighbours have.
 *
 *   slots [rows, components] ─ Gather(bank a) ─ [rows, 1, components, hidden]
 *   x [rows, tokens, hidden] ─ Unsqueeze ─ Mul ─ ReduceSum ─ [rows, tokens, components] ─ · scales
 *   slots ─ Gather(bank b) ─ [rows, components, intermediate] ─ MatMul ─ Add(base)
 */
function adapted(
  { graph, config }: Context,
  layer: number,
  { input, base }: { input: string; base: string },
): string {
  const address = `/layers.${layer}/mlp/adapter`
  const a = graph.input(bankA(layer), 'float32', ['slots', config.hiddenSize])
  const b = graph.input(bankB(layer), 'float32', ['slots', config.intermediateSize])
  const one = graph.constant('int64', [1])
  const two = graph.constant('int64', [2])
  const rowA = graph.node(`${address}/a`, 'Gather', [a, 'adapter_slots'])
  const rowB = graph.node(`${address}/b`, 'Gather', [b, 'adapter_slots'])
  const spread = graph.node(`${address}/a/unsqueeze`, 'Unsqueeze', [rowA, one])
  const x = graph.node(`${address}/x`, 'Unsqueeze', [input, two])
  const product = graph.node(`${address}/product`, 'Mul', [x, spread])
  const activation = graph.node(
    `${address}/activation`,
    'ReduceSum',
    [product, graph.constant('int64', [-1])],
    { attributes: { keepdims: 0 } },
  )
  const scales = graph.node(`${address}/scales`, 'Unsqueeze', ['adapter_scales', one])
  const scaled = graph.node(`${address}/scaled`, 'Mul', [activation, scales])
  const delta = graph.node(`${address}/delta`, 'MatMul', [scaled, rowB])
  return graph.node(`${address}/sum`, 'Add', [base, delta])
}
