// The keys and values of all layers: rows × capacity positions in native memory. Row r belongs to
// one sequence; the graph reads and appends in place, everything here copies between two steps.

import type { ModelConfig } from '../contracts/checkpoint.ts'
import { pastKey, pastValue, presentKey, presentValue } from '../graph/decoder.ts'
import { allocateTensor, type Tensor } from './session.ts'

export interface KvCacheOptions {
  readonly config: ModelConfig
  /** Number of cache rows. */
  readonly rows: number
  /** Positions per row. */
  readonly capacity: number
}

/** The first positions of a cache row, in memory of their own. */
export interface SavedCacheRow {
  readonly memory: Tensor<'float32'>
  readonly length: number
  readonly bytes: number
  release(): void
}

export type KvCache = ReturnType<typeof createKvCache>

export function createKvCache({ config, rows, capacity }: KvCacheOptions) {
  const layers = Array.from({ length: config.numLayers }, (_, layer) => layer)
  const dims = [rows, config.numKvHeads, capacity, config.headDim]
  const keys = layers.map(() => allocateTensor('float32', dims))
  const values = layers.map(() => allocateTensor('float32', dims))
  const rowElements = config.numKvHeads * capacity * config.headDim
  const positionBytes = 2 * config.numLayers * config.numKvHeads * config.headDim * 4

  /** Visits a row's keys and values head by head: `count` elements from `start` on, the at-th head. */
  function eachHead(
    row: number,
    length: number,
    visit: (cache: Float32Array, start: number, count: number, at: number) => void,
  ): void {
    let at = 0
    for (const tensor of [...keys, ...values]) {
      for (let head = 0; head < config.numKvHeads; head++) {
        const start = row * rowElements + head * capacity * config.headDim
        visit(tensor.data, start, length * config.headDim, at++)
      }
    }
  }

  return {
    /** Rows first … first + count − 1 under the names of the graph; past and present are one. */
    view(first: number, count: number) {
      const inputs = new Map<string, Tensor>()
      const outputs = new Map<string, Tensor>()
      const viewDims = [count, config.numKvHeads, capacity, config.headDim]
      for (const layer of layers) {
        const key = keys[layer]!.view(viewDims, first * rowElements)
        const value = values[layer]!.view(viewDims, first * rowElements)
        inputs.set(pastKey(layer), key).set(pastValue(layer), value)
        outputs.set(presentKey(layer), key).set(presentValue(layer), value)
      }
      return { inputs, outputs }
    },

    /** Copies the first `length` positions of a row over another's. */
    copyRow(from: number, to: number, length: number): void {
      const offset = (to - from) * rowElements
      eachHead(from, length, (cache, start, count) => {
        cache.copyWithin(start + offset, start, start + count)
      })
    },

    /** Bytes that `saveRow` takes for so many positions. */
    savedBytes: (length: number) => length * positionBytes,

    /** Copies the first `length` positions of a row out of the cache. */
    saveRow(row: number, length: number): SavedCacheRow {
      const memory = allocateTensor('float32', [(length * positionBytes) / 4])
      eachHead(row, length, (cache, start, count, at) => {
        memory.data.set(cache.subarray(start, start + count), at * count)
      })
      return { memory, length, bytes: length * positionBytes, release: () => memory.release() }
    },

    /** Copies the first `length` positions of a saved row into a row of the cache. */
    restoreRow(saved: SavedCacheRow, row: number, length: number): void {
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
