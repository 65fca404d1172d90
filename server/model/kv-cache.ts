// The keys and values of all layers: rows × capacity positions in native memory. Row r belongs to
// one sequence; the graph reads and appends in place, everything here copies between two steps.

import type { FloatType, ModelConfig } from '../contracts/checkpoint.ts'
import { pastKey, pastValue, presentKey, presentValue } from '../graph/decoder.ts'
import { type AnyTensor, allocateTensor, type Tensor } from './session.ts'

export interface KvCacheOptions {
  readonly config: ModelConfig
  /** Number of cache rows. */
  readonly rows: number
  /** Positions per row. */
  readonly capacity: number
  /** What the graph computes in. */
  readonly floats: FloatType
}

/** The first positions of a cache row, in memory of their own. */
export interface SavedCacheRow {
  readonly memory: Tensor<FloatType>
  readonly length: number
  readonly bytes: number
  release(): void
}

export interface CacheView {
  readonly inputs: Map<string, AnyTensor>
  readonly outputs: Map<string, AnyTensor>
}

/** On the host below; device-kv-cache.ts is the other kind. */
export interface KvCache {
  /** A row, as the graph appends `tokens` to its first `past` positions. */
  prefillView(row: number, past: number, tokens: number): CacheView
  /** Rows 0 … count − 1. Good for many runs, each after `beforeDecode`. */
  decodeView(count: number): CacheView
  beforeDecode(count: number): void
  /** Copies the first `length` positions of a row over another's. */
  copyRow(from: number, to: number, length: number): void
  /** Bytes that `saveRow` takes for so many positions. */
  savedBytes(length: number): number
  /** Copies the first `length` positions of a row out of the cache. */
  saveRow(row: number, length: number): SavedCacheRow
  /** Copies the first `length` positions of a saved row into a row of the cache. */
  restoreRow(saved: SavedCacheRow, row: number, length: number): void
  release(): void
}

/** Keys of all layers, then values, under the names of the graph; past and present are one. */
export function nameCacheTensors(tensors: readonly AnyTensor[]): CacheView {
  const inputs = new Map<string, AnyTensor>()
  const outputs = new Map<string, AnyTensor>()
  const numLayers = tensors.length / 2
  for (let layer = 0; layer < numLayers; layer++) {
    const key = tensors[layer] as AnyTensor
    const value = tensors[numLayers + layer] as AnyTensor
    inputs.set(pastKey(layer), key).set(pastValue(layer), value)
    outputs.set(presentKey(layer), key).set(presentValue(layer), value)
  }
  return { inputs, outputs }
}

export function createKvCache({ config, rows, capacity, floats }: KvCacheOptions): KvCache {
  const layers = Array.from({ length: config.numLayers }, (_, layer) => layer)
  const dims = [rows, config.numKvHeads, capacity, config.headDim]
  const keys = layers.map(() => allocateTensor(floats, dims))
  const values = layers.map(() => allocateTensor(floats, dims))
  const floatBytes = floats === 'float16' ? 2 : 4
  const rowElements = config.numKvHeads * capacity * config.headDim
  const positionBytes = 2 * config.numLayers * config.numKvHeads * config.headDim * floatBytes

  /** Visits a row's keys and values head by head: `count` elements from `start` on, the at-th head. */
  function eachHead(
    row: number,
    length: number,
    visit: (cache: Float32Array | Uint16Array, start: number, count: number, at: number) => void,
  ): void {
    let at = 0
    for (const tensor of [...keys, ...values]) {
      for (let head = 0; head < config.numKvHeads; head++) {
        const start = row * rowElements + head * capacity * config.headDim
        visit(tensor.data, start, length * config.headDim, at++)
      }
    }
  }

  /** Rows first … first + count − 1. */
  function view(first: number, count: number): CacheView {
    const viewDims = [count, config.numKvHeads, capacity, config.headDim]
    return nameCacheTensors(
      [...keys, ...values].map((tensor) => tensor.view(viewDims, first * rowElements)),
    )
  }

  return {
    prefillView: (row) => view(row, 1),
    decodeView: (count) => view(0, count),
    beforeDecode: () => {},

    copyRow(from, to, length) {
      const offset = (to - from) * rowElements
      eachHead(from, length, (cache, start, count) => {
        cache.copyWithin(start + offset, start, start + count)
      })
    },

    savedBytes: (length) => length * positionBytes,

    saveRow(row, length) {
      const memory = allocateTensor(floats, [(length * positionBytes) / floatBytes])
      eachHead(row, length, (cache, start, count, at) => {
        memory.data.set(cache.subarray(start, start + count), at * count)
      })
      return { memory, length, bytes: length * positionBytes, release: () => memory.release() }
    },

    restoreRow(saved, row, length) {
      const stride = saved.length * config.headDim
      eachHead(row, length, (cache, start, count, at) => {
        cache.set(saved.memory.data.subarray(at * stride, at * stride + count), start)
      })
    },

    release(): void {
      for (const tensor of [...keys, ...values]) tensor.release()
    },
  }
}
