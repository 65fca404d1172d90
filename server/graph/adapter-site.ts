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
 * filled up with zeros. With no components at all the sum is base: nothing is read or computed.
 *
 *   x [rows, tokens, inner] ─ MatMul(a [rows, inner, components]) ─ [rows, tokens, components]
 *                           ─ MatMul(b [rows, components, outer]) ─ Add(base)
 *
 * A batched product computes each row by itself, whatever stands beside it. Few nodes count for more
 * than fast ones: in a step that streams all weights past the caches each node costs some µs.
 */
export function adapterSite(
  graph: GraphBuilder,
  config: ModelConfig,
  { layer, module, input, base }: SiteOptions,
): string {
  const { inner, outer } = moduleShape(config, module)
  const address = `/layers.${layer}/adapter/${module}`
  // Each place has a width of its own.
  const components = `components.${layer}.${module}`
  const a = graph.input(adapterA(layer, module), graph.floats, ['rows', inner, components])
  const b = graph.input(adapterB(layer, module), graph.floats, ['rows', components, outer])
  const activation = graph.node(`${address}/activation`, 'MatMul', [input, a])
  const delta = graph.node(`${address}/delta`, 'MatMul', [activation, b])
  return graph.node(`${address}/sum`, 'Add', [base, delta])
}
