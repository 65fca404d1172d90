// Small graphs that move parts of tensors about on the device that they live on. `indices` name the
// first indices of what is moved: one line of them for each part.

import type { FloatType } from '../contracts/float-type.ts'
import { createGraphBuilder, type Graph } from './builder.ts'

export function copySource(tensor: number) {
  return `source.${tensor}`
}

export function copyTarget(tensor: number) {
  return `target.${tensor}`
}

export function copyResult(tensor: number) {
  return `result.${tensor}`
}

export const sourceIndices = 'source.indices'
export const targetIndices = 'target.indices'

export interface CopyGraphOptions {
  readonly floats: FloatType
  /** Pairs of tensors that one run copies between. */
  readonly numTensors: number
  /** Dimensions of each tensor. */
  readonly rank: number
  /** How many first indices an index tuple has. */
  readonly depth: number
}

/**
 *   source ─ GatherND(source.indices [parts, depth]) ─ ScatterND(target, target.indices) ─ result
 *
 * With target and result bound to one tensor it is written in place.
 */
export function buildCopy(options: CopyGraphOptions): Graph {
  const graph = createGraphBuilder()
  const { floats, numTensors, rank, depth } = options
  const from = graph.input(sourceIndices, 'int64', ['parts', depth])
  const to = graph.input(targetIndices, 'int64', ['parts', depth])
  for (let tensor = 0; tensor < numTensors; tensor++) {
    const source = graph.input(copySource(tensor), floats, dimsOf(copySource(tensor), rank))
    const target = graph.input(copyTarget(tensor), floats, dimsOf(copyTarget(tensor), rank))
    const result = graph.output(copyResult(tensor), floats, dimsOf(copyTarget(tensor), rank))
    const parts = graph.node(`/parts.${tensor}`, 'GatherND', [source, from])
    graph.node(`/write.${tensor}`, 'ScatterND', [target, to, parts], { outputs: [result] })
  }
  return graph.build()
}

/** source ─ GatherND(source.indices [parts, depth]) ─ result [parts, …] */
export function buildRead({ floats, numTensors, rank, depth }: CopyGraphOptions): Graph {
  const graph = createGraphBuilder()
  const from = graph.input(sourceIndices, 'int64', ['parts', depth])
  for (let tensor = 0; tensor < numTensors; tensor++) {
    const dims = dimsOf(copySource(tensor), rank)
    const source = graph.input(copySource(tensor), floats, dims)
    const result = graph.output(copyResult(tensor), floats, ['parts', ...dims.slice(depth)])
    graph.node(`/read.${tensor}`, 'GatherND', [source, from], { outputs: [result] })
  }
  return graph.build()
}

/** Every dimension has a name of its own: tensors may differ in all of them. */
function dimsOf(tensor: string, rank: number) {
  return Array.from({ length: rank }, (_, i) => `${tensor}.${i}`)
}
