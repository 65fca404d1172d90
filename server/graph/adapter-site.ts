// The place in the graph where adapters change one linear module.

import type { GraphTarget, LinearModule, ModelConfig } from '../contracts/checkpoint.ts'
import { moduleShape } from '../contracts/checkpoint.ts'
import type { GraphBuilder } from './builder.ts'

export const adapterA = (layer: number, module: LinearModule) => `adapter.${layer}.${module}.a`
export const adapterB = (layer: number, module: LinearModule) => `adapter.${layer}.${module}.b`

/**
 * What x is broadcast with, [4]: ones; or a 0 for the components where there are none, since a
 * product does not broadcast against nothing.
 */
export const adapterSpread = (layer: number, module: LinearModule) =>
  `adapter.${layer}.${module}.spread`

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
 * filled up with zeros. With no components at all the sum is base: nothing is read or computed.
 *
 *   x [rows, 1, tokens, inner] ─ Expand(spread) ─ FusedMatMul(a [rows, components, 1, inner]ᵀ)
 *     ─ [rows, components, tokens, 1] ─ Transpose ─ [rows, 1, tokens, components]
 *     ─ MatMul(b [rows, 1, components, outer]) ─ [rows, tokens, outer] ─ Add(base)
 *
 * The products are batched over rows and components, so that each a · x is computed by itself, in
 * the same order whatever stands beside it. An accelerator has no product with a transpose in it and
 * wants no empty tensors: there a is [rows, components, inner, 1], the very same memory, and x is
 * multiplied with at least one component, which may be zeros.
 */
export function adapterSite(
  graph: GraphBuilder,
  config: ModelConfig,
  { operators }: GraphTarget,
  { layer, module, input, base }: SiteOptions,
): string {
  const { inner, outer } = moduleShape(config, module)
  const address = `/layers.${layer}/adapter/${module}`
  // Each place has a width of its own.
  const components = `components.${layer}.${module}`
  const vector = operators === 'cpu' ? [1, inner] : [inner, 1]
  const a = graph.input(adapterA(layer, module), graph.floats, ['rows', components, ...vector])
  const b = graph.input(adapterB(layer, module), graph.floats, ['rows', 1, components, outer])
  const one = graph.constant('int64', [1])
  const unspread = graph.node(`${address}/unspread`, 'Unsqueeze', [input, one])
  let activation: string
  if (operators === 'cpu') {
    const spread = graph.input(adapterSpread(layer, module), 'int64', [4])
    const x = graph.node(`${address}/x`, 'Expand', [unspread, spread])
    activation = graph.node(`${address}/activation`, 'FusedMatMul', [x, a], {
      domain: 'com.microsoft',
      attributes: { transB: 1 },
    })
  } else {
    activation = graph.node(`${address}/activation`, 'MatMul', [unspread, a])
  }
  const turned = graph.node(`${address}/turned`, 'Transpose', [activation], {
    attributes: { perm: [0, 3, 2, 1] },
  })
  const delta = graph.node(`${address}/delta`, 'MatMul', [turned, b])
  const flat = graph.node(`${address}/flat`, 'Squeeze', [delta, one])
  return graph.node(`${address}/sum`, 'Add', [base, flat])
}
