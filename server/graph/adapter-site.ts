// The site in the graph where adapters change one linear module.

import type { Kernels, LinearModule, ModelConfig } from '../contracts/checkpoint.ts'
import { moduleShape } from '../contracts/checkpoint.ts'
import type { GraphBuilder } from './builder.ts'

export function adapterA(layer: number, module: LinearModule) {
  return `adapter.${layer}.${module}.a`
}

export function adapterB(layer: number, module: LinearModule) {
  return `adapter.${layer}.${module}.b`
}

export interface SiteOptions {
  readonly layer: number
  readonly module: LinearModule
  /** The module's input, [rows, tokens, inner]. */
  readonly input: string
  /** Its output without adapters, [rows, tokens, outer]. */
  readonly base: string
}

export interface SiteContext {
  readonly graph: GraphBuilder
  readonly config: ModelConfig
  readonly kernels: Kernels
}

/**
 * The components of all rows at one site; each site has a width of its own. Our own kernels also take
 * one copy of components that all rows have in common.
 */
export function siteInputs(
  { graph, config, kernels }: SiteContext,
  layer: number,
  module: LinearModule,
): readonly [a: string, b: string] {
  const { inner, outer } = moduleShape(config, module)
  const components = `components.${layer}.${module}`
  const rows = kernels === 'own' ? 'adapter_rows' : 'rows'
  return [
    graph.input(adapterA(layer, module), graph.floats, [rows, inner, components]),
    graph.input(adapterB(layer, module), graph.floats, [rows, components, outer]),
  ]
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
 * than fast ones: in a step that streams all weights past the caches each node costs some µs. Our own
 * kernels do it in one.
 */
export function adapterSite(
  { graph, config, kernels }: SiteContext,
  { layer, module, input, base }: SiteOptions,
): string {
  const address = `/layers.${layer}/adapter/${module}`
  const [a, b] = siteInputs({ graph, config, kernels }, layer, module)
  if (kernels === 'own') {
    return graph.node(`${address}/sum`, 'AddAdapters', [base, input, a, b], { domain: 'dutyfree' })
  }
  const activation = graph.node(`${address}/activation`, 'MatMul', [input, a])
  const delta = graph.node(`${address}/delta`, 'MatMul', [activation, b])
  return graph.node(`${address}/sum`, 'Add', [base, delta])
}
