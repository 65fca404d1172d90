// The place in the graph where adapters change one linear module.

import type { LinearModule, ModelConfig } from '../contracts/checkpoint.ts'
import { moduleShape } from '../contracts/checkpoint.ts'
import type { GraphBuilder } from './builder.ts'

export const adapterA = (layer: number, module: LinearModule) => `adapter.${layer}.${module}.a`
export const adapterB = (layer: number, module: LinearModule) => `adapter.${layer}.${module}.b`

export interface SiteOptions {
  readonly layer: number
  readonly module: LinearModule
  /** The module's input, [rows, tokens, inner]. */
  readonly input: string
  /** Its output without adapters, [rows, tokens, outer]. */
  readonly base: string
}

/**
 * Adds each row's adapters: base + Σᵣ bᵣ (aᵣ · x), where every row of the batch brings its own
 * components; strengths are folded into b, and a row with fewer components than its neighbours is
 * filled up with zeros.
 *
 *   x [rows, 1, tokens, inner] ─ FusedMatMul(a [rows, components, 1, inner]ᵀ)
 *     ─ [rows, components, tokens, 1] ─ Transpose ─ [rows, 1, tokens, components]
 *     ─ MatMul(b [rows, 1, components, outer]) ─ [rows, tokens, outer] ─ Add(base)
 *
 * The products are batched over rows and components, so that each a · x is computed by itself, in
 * the same order whatever stands beside it.
 */
export function adapterSite(
  graph: GraphBuilder,
  config: ModelConfig,
  { layer, module, input, base }: SiteOptions,
): string {
  const { inner, outer } = moduleShape(config, module)
  const address = `/layers.${layer}/adapter/${module}`
  const a = graph.input(adapterA(layer, module), 'float32', ['rows', 'components', 1, inner])
  const b = graph.input(adapterB(layer, module), 'float32', ['rows', 1, 'components', outer])
  const one = graph.constant('int64', [1])
  const x = graph.node(`${address}/x`, 'Unsqueeze', [input, one])
  const activation = graph.node(`${address}/activation`, 'FusedMatMul', [x, a], {
    domain: 'com.microsoft',
    attributes: { transB: 1 },
  })
  const turned = graph.node(`${address}/turned`, 'Transpose', [activation], {
    attributes: { perm: [0, 3, 2, 1] },
  })
  const delta = graph.node(`${address}/delta`, 'MatMul', [turned, b])
  const flat = graph.node(`${address}/flat`, 'Squeeze', [delta, one])
  return graph.node(`${address}/sum`, 'Add', [base, flat])
}
