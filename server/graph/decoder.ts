// The decoder of the Qwen2 and Llama families as an ONNX graph: computing in float32 or float16, weights
// likewise or quantised in blocks.
//
//   input_ids [rows, tokens] ─ embed ─┬─ layer 0 … layer L−1 ─ norm ─ last tokens ─ lm_head ─ logits
//                                     │
//   layer:  h ─ norm ─ qkv ─ GroupQueryAttention(KV in place) ─ o ─ (+h) ─ norm ─ mlp ─ (+)
//           (with our own kernels CachedAttention, server/native)
//   mlp:    gate_up ─ split ─ silu(gate) · (up + adapter) ─ down
//
//   probe:  w [hidden] · residual (or MLP output) of one layer, for the last tokens too ─ probe
//
// Inputs that vary: rows (sequences), tokens (new tokens of each), capacity (KV positions per row),
// components of each adapter site (rank-1 adapter components on a row), positions (last tokens whose
// logits are wanted).

import {
  type GraphTarget,
  type LinearModule,
  type ModelConfig,
  moduleShape,
  type ProbePlace,
  type TensorSource,
  type WeightFormat,
} from '../contracts/checkpoint.ts'
import type { FloatType } from '../contracts/float-type.ts'
import { adapterSite, type SiteOptions, siteInputs } from './adapter-site.ts'
import { createGraphBuilder, type Graph, type GraphBuilder } from './builder.ts'
import { type EmbeddingContext, embed, float32Code, logitsOf } from './embedding.ts'
import { gatedLinear, linear } from './linear.ts'
import { rotaryTable } from './rope.ts'

export interface DecoderOptions {
  readonly config: ModelConfig
  readonly tensors: TensorSource
  /** Positions the rotary tables cover. */
  readonly maxContext: number
  readonly format: WeightFormat
  /** Logits are always float32. */
  readonly target: GraphTarget
  /** The modules that adapters may change; each costs a little on every row. */
  readonly sites: readonly LinearModule[]
  /** Where a direction is compared with the hidden state; null: nowhere. */
  readonly probe: ProbePlace | null
}

/** The graph's input w [hidden]. */
export const probeInput = 'probe.direction'

export function pastKey(layer: number) {
  return `past.${layer}.key`
}

export function pastValue(layer: number) {
  return `past.${layer}.value`
}

export function presentKey(layer: number) {
  return `present.${layer}.key`
}

export function presentValue(layer: number) {
  return `present.${layer}.value`
}

export function buildDecoder(options: DecoderOptions): Graph {
  const { config, tensors, maxContext, format, target, sites, probe } = options
  const graph = createGraphBuilder(target.floats)
  const { kernels, cacheFloats } = target
  const context = { graph, config, tensors, format, kernels, cacheFloats, sites }

  const ids = graph.input('input_ids', 'int64', ['rows', 'tokens'])
  graph.input('seqlens_k', 'int32', ['rows'])
  graph.input('total_sequence_length', 'int32', [])
  graph.input(firstLogits, 'int64', [1])
  graph.weight('rope.cos', [maxContext, config.headDim / 2], () =>
    rotaryTable(config, maxContext, Math.cos),
  )
  graph.weight('rope.sin', [maxContext, config.headDim / 2], () =>
    rotaryTable(config, maxContext, Math.sin),
  )

  let residual = embed(context, ids)
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
    if (layer === probe?.layer) probed(context, probe.site === 'residual' ? residual : output)
  }

  logitsOf(context, lastTokens(graph, '/last_tokens', normed))
  return graph.build()
}

const firstLogits = 'first_logits'

/** Sampling wants the last token's logits, −1; log-probabilities of a prompt want more of them. */
function lastTokens(graph: GraphBuilder, name: string, of: string): string {
  const end = graph.constant('int64', [Number.MAX_SAFE_INTEGER])
  return graph.node(name, 'Slice', [of, firstLogits, end, graph.constant('int64', [1])])
}

/**
 * w · h of each token whose logits are wanted, always in float32. A product of matrices would round by
 * the number of rows; a sum along a row does not.
 */
function probed({ graph, config }: Context, hidden: string): void {
  const last = lastTokens(graph, '/probe/last_tokens', hidden)
  const floats =
    graph.floats === 'float32'
      ? last
      : graph.node('/probe/floats', 'Cast', [last], { attributes: { to: float32Code } })
  const direction = graph.input(probeInput, 'float32', [config.hiddenSize])
  const product = graph.node('/probe/product', 'Mul', [floats, direction])
  graph.node('/probe/sum', 'ReduceSum', [product, graph.constant('int64', [-1])], {
    attributes: { keepdims: 0 },
    outputs: [graph.output('probe', 'float32', ['rows', 'positions'])],
  })
}

interface Context extends EmbeddingContext {
  readonly cacheFloats: FloatType
  readonly sites: readonly LinearModule[]
}

/** A module's output with the adapters on it, where the graph has a site for it. */
function adapted(context: Context, options: SiteOptions): string {
  return context.sites.includes(options.module) ? adapterSite(context, options) : options.base
}

function normWeight({ graph, config, tensors }: Context, name: string): string {
  return graph.weight(name, [config.hiddenSize], () => tensors.read(name))
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

const ownAttention = { float32: 'CachedAttention', float16: 'CachedAttentionHalves' } as const

/** KV past and present are bound to one tensor: the operator appends in place. */
function attention(context: Context, layer: number, input: string): string {
  const { graph, config, cacheFloats } = context
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
  const heads = [
    ...adaptedHeads(context, layer, { input, qkv }),
    graph.input(pastKey(layer), cacheFloats, cache),
    graph.input(pastValue(layer), cacheFloats, cache),
    'seqlens_k',
  ]
  const rope = ['rope.cos', 'rope.sin']
  const outputs = [
    address,
    graph.output(presentKey(layer), cacheFloats, cache),
    graph.output(presentValue(layer), cacheFloats, cache),
  ]
  const sizes = { num_heads: config.numHeads, kv_num_heads: config.numKvHeads }
  const attended =
    context.kernels === 'own'
      ? graph.node(address, ownAttention[cacheFloats], [...heads, ...rope], {
          domain: 'dutyfree',
          outputs,
          attributes: sizes,
        })
      : graph.node(address, 'GroupQueryAttention', [...heads, 'total_sequence_length', ...rope], {
          domain: 'com.microsoft',
          outputs,
          attributes: {
            ...sizes,
            do_rotary: 1,
            rotary_interleaved: 0,
            scale: { float: 1 / Math.sqrt(config.headDim) },
          },
        })
  const output = linear(context, {
    name: `${address}/o`,
    input: attended,
    weights: [`${prefix}.o_proj.weight`],
    biases: config.outputBias ? [`${prefix}.o_proj.bias`] : [],
  })
  return adapted(context, { layer, module: 'o_proj', input: attended, base: output })
}

/** Query, key and value: packed in one tensor, or apart where adapters change one of them. */
function adaptedHeads(
  context: Context,
  layer: number,
  { input, qkv }: { input: string; qkv: string },
): readonly [string, string, string] {
  const { graph, config, sites } = context
  const modules = ['q_proj', 'k_proj', 'v_proj'] as const
  if (!modules.some((module) => sites.includes(module))) return [qkv, '', '']
  const address = `/layers.${layer}/attn`
  const outputs = modules.map((module) => `${address}/${module}`)
  const sizes = modules.map((module) => moduleShape(config, module).outer)
  graph.node(`${address}/split`, 'Split', [qkv, graph.constant('int64', sizes)], {
    outputs,
    attributes: { axis: -1 },
  })
  const [query, key, value] = modules.map((module, i) =>
    adapted(context, { layer, module, input, base: outputs[i] ?? '' }),
  )
  return [query ?? '', key ?? '', value ?? '']
}

function mlp(context: Context, layer: number, input: string): string {
  const { config } = context
  const prefix = `model.layers.${layer}.mlp`
  const address = `/layers.${layer}/mlp`
  const projections = ['gate_proj', 'up_proj'].map((name) => `${prefix}.${name}`)
  const gateAndUp = {
    name: `${address}/gate_up`,
    input,
    weights: projections.map((name) => `${name}.weight`),
    biases: config.mlpBias ? projections.map((name) => `${name}.bias`) : [],
  }
  const adapters = context.kernels === 'own' ? gatedInputs(context, layer) : []
  const product =
    gatedLinear(context, { ...gateAndUp, adapters }) ??
    gated(context, layer, { input, gateUp: linear(context, gateAndUp), adapters })
  const down = linear(context, {
    name: `${address}/down`,
    input: product,
    weights: [`${prefix}.down_proj.weight`],
    biases: config.mlpBias ? [`${prefix}.down_proj.bias`] : [],
  })
  return adapted(context, { layer, module: 'down_proj', input: product, base: down })
}

interface GatedInputs {
  readonly input: string
  readonly gateUp: string
  /** Of up and gate, for our own kernels. */
  readonly adapters: readonly string[]
}

/** The adapters of up and gate as our own nodes take them: a, b, a, b; '' where there are none. */
function gatedInputs(context: Context, layer: number): readonly string[] {
  const modules = ['up_proj', 'gate_proj'] as const
  return modules.flatMap((module) =>
    context.sites.includes(module) ? siteInputs(context, layer, module) : ['', ''],
  )
}

/** silu(gate) · up, with the adapters on both. */
function gated(context: Context, layer: number, options: GatedInputs): string {
  const { graph } = context
  const { input, gateUp } = options
  if (context.kernels === 'own') return gatedUp(context, layer, options)
  const address = `/layers.${layer}/mlp`
  graph.node(`${address}/split`, 'Split', [gateUp], {
    outputs: [`${address}/gate`, `${address}/up`],
    attributes: { axis: -1, num_outputs: 2 },
  })
  const base = { layer, input }
  const up = adapted(context, { ...base, module: 'up_proj', base: `${address}/up` })
  const gated = adapted(context, { ...base, module: 'gate_proj', base: `${address}/gate` })
  const gate = graph.node(`${address}/silu`, 'QuickGelu', [gated], {
    domain: 'com.microsoft',
    attributes: { alpha: { float: 1 } },
  })
  return graph.node(`${address}/product`, 'Mul', [gate, up])
}

/** The same in one node of our own. */
function gatedUp(context: Context, layer: number, options: GatedInputs): string {
  const { graph } = context
  const { input, gateUp, adapters } = options
  const inputs = adapters.some((name) => name !== '') ? [gateUp, input, ...adapters] : [gateUp]
  while (inputs.at(-1) === '') inputs.pop()
  return graph.node(`/layers.${layer}/mlp/product`, 'GatedUp', inputs, { domain: 'dutyfree' })
}
