// The place in the graph where adapters change one linear module.

import type { LinearModule, ModelConfig } from '../contracts/checkpoint.ts'
import { moduleShape } from '../contracts/checkpoint.ts'
import type { GraphBuilder } from './builder.ts'

export const bankA = (layer: number, module: LinearModule) => `bank.${layer}.${module}.a`
export const bankB = (layer: number, module: LinearModule) => `bank.${layer}.${module}.b`

export interface SiteOptions {
  readonly layer: number
  readonly module: LinearModule
  /** The module's input, [rows, tokens, inner]. */
  readonly input: string
  /** Its output without adapters, [rows, tokens, outer]. */
  readonly base: string
}

/**
 * Adds each row's adapter: base + Σᵣ scaleᵣ · bᵣ (aᵣ · x), the rank-1 components gathered from the
 * bank by slot. Slot 0 holds zeros. The dot products are a Mul and a ReduceSum because a row's sums
 * then do not depend on how many components its neighbours have.
 *
 *   slots [rows, components] ─ Gather(bank a) ─ [rows, 1, components, inner]
 *   x [rows, tokens, inner] ─ Unsqueeze ─ Mul ─ ReduceSum ─ [rows, tokens, components] ─ · scales
 *   slots ─ Gather(bank b) ─ [rows, components, outer] ─ MatMul ─ Add(base)
 */
export function adapterSite(
  graph: GraphBuilder,
  config: ModelConfig,
  options: SiteOptions,
): string {
  const { layer, module, input, base } = options
  const { inner, outer } = moduleShape(config, module)
  const address = `/layers.${layer}/adapter/${module}`
  const a = graph.input(bankA(layer, module), 'float32', ['slots', inner])
  const b = graph.input(bankB(layer, module), 'float32', ['slots', outer])
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
