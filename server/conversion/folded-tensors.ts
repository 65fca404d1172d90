// A checkpoint's tensors with adapters folded into them: W + Σ scale · b aᵀ, summed in float64 and
// rounded once, some rows at a time. Whatever the weights become then is made of the sum.

import type { ScaledRankOne } from '../contracts/adapter.ts'
import type { LinearModule, TensorSource } from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'

/** W += scale · b aᵀ */
export interface FoldedPair {
  /** [inner] */
  readonly a: Float32Array
  /** [outer] */
  readonly b: Float32Array
  readonly scale: number
}

/** By the tensor that they change. Passes between threads. */
export type Folds = ReadonlyMap<string, readonly FoldedPair[]>

/** What changes no weight is left out. The vectors lie in memory that threads share. */
export function foldsOf(updates: readonly ScaledRankOne[]): Folds {
  const folds = new Map<string, FoldedPair[]>()
  for (const { component, scale } of updates) {
    if (scale === 0) continue
    for (const { layer, module, a, b } of component) {
      const name = tensorOf(layer, module)
      const pairs = folds.get(name) ?? []
      pairs.push({ a: shared(a), b: shared(b), scale })
      folds.set(name, pairs)
    }
  }
  return folds
}

function shared(values: Float32Array): Float32Array {
  const copy = new Float32Array(new SharedArrayBuffer(values.byteLength))
  copy.set(values)
  return copy
}

function tensorOf(layer: number, module: LinearModule): string {
  const block = /^[qkvo]_/.test(module) ? 'self_attn' : 'mlp'
  return `model.layers.${layer}.${block}.${module}.weight`
}

/** A tensor that is changed is no longer in the numbers of its file. */
export function foldedTensors(tensors: TensorSource, folds: Folds): TensorSource {
  if (folds.size === 0) return tensors

  function readRows(name: string, first: number, count: number): Float32Array {
    const values = tensors.readRows(name, first, count)
    const pairs = folds.get(name)
    // A view of what is cached stays as it is.
    return pairs === undefined ? values : add(name, values.slice(), first, count, pairs)
  }

  const { stored } = tensors
  return {
    has: (name) => tensors.has(name),
    shape: (name) => tensors.shape(name),
    read: (name) =>
      folds.has(name) ? readRows(name, 0, tensors.shape(name)[0] ?? 0) : tensors.read(name),
    readRows,
    ...(stored && {
      stored: (name: string) =>
        folds.has(name)
          ? { type: 'F32', readRows: (first, count) => bytesOf(readRows(name, first, count)) }
          : stored.call(tensors, name),
    }),
  }
}

function add(
  name: string,
  values: Float32Array,
  first: number,
  count: number,
  pairs: readonly FoldedPair[],
): Float32Array {
  const columns = count === 0 ? 0 : values.length / count
  const change = new Float64Array(columns)
  for (let row = 0; row < count; row++) {
    change.fill(0)
    for (const { a, b, scale } of pairs) {
      const factor = scale * b[first + row]!
      for (let i = 0; i < columns; i++) change[i]! += factor * a[i]!
    }
    const start = row * columns
    for (let i = 0; i < columns; i++) {
      const sum = Math.fround(values[start + i]! + change[i]!)
      if (!Number.isFinite(sum)) throw notFinite(name, sum)
      values[start + i] = sum
    }
  }
  return values
}

function notFinite(name: string, value: number): ServerError {
  return new ServerError(
    'invalid_adapter',
    `Folded into ${name} the adapter makes a weight ${value}: merge it at a lower strength.`,
  )
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
