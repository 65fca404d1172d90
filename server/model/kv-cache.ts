// The keys and values of all layers: rows × capacity positions in native memory. Row r belongs to
// one sequence; the graph reads and appends in place, everything here copies between two steps. The
// cache changes its shape by moving into new memory, one tensor after the other.

import type { ModelConfig } from '../contracts/checkpoint.ts'
import { pastKey, pastValue, presentKey, presentValue } from '../graph/decoder.ts'
import { allocateTensor, type Tensor } from './session.ts'

export interface KvCacheShape {
  /** Number of cache rows. */
  readonly rows: number
  /** Positions per row. */
  readonly capacity: number
}

export interface KvCacheOptions extends KvCacheShape {
  readonly config: ModelConfig
}

/** Some positions of a cache row, in memory of their own. */
export interface SavedPositions {
  readonly memory: Tensor<'float32'>
  readonly count: number
  readonly bytes: number
  release(): void
}

export type KvCache = ReturnType<typeof createKvCache>

export function createKvCache({ config, ...first }: KvCacheOptions) {
  const { numLayers, numKvHeads, headDim } = config
  const layers = Array.from({ length: numLayers }, (_, layer) => layer)
  const positionBytes = 2 * numLayers * numKvHeads * headDim * 4
  let shape: KvCacheShape = first
  const allocate = ({ rows, capacity }: KvCacheShape) =>
    allocateTensor('float32', [rows, numKvHeads, capacity, headDim])
  const keys = layers.map(() => allocate(shape))
  const values = layers.map(() => allocate(shape))

  const startOf = ({ capacity }: KvCacheShape, row: number, head: number) =>
    (row * numKvHeads + head) * capacity * headDim

  /** Visits some positions of a row head by head: their first element, the at-th head. */
  function eachHead(
    row: number,
    from: number,
    visit: (cache: Float32Array, start: number, at: number) => void,
  ): void {
    let at = 0
    for (const tensor of [...keys, ...values]) {
      for (let head = 0; head < numKvHeads; head++) {
        visit(tensor.data, startOf(shape, row, head) + from * headDim, at++)
      }
    }
  }

  /** A tensor in a new shape, with the first lengths[row] positions of each row. */
  function moved(
    old: Tensor<'float32'>,
    newShape: KvCacheShape,
    lengths: readonly number[],
  ): Tensor<'float32'> {
    const tensor = allocate(newShape)
    for (const [row, length] of lengths.entries()) {
      for (let head = 0; head < numKvHeads; head++) {
        const start = startOf(shape, row, head)
        const kept = old.data.subarray(start, start + length * headDim)
        tensor.data.set(kept, startOf(newShape, row, head))
      }
    }
    old.release()
    return tensor
  }

  return {
    positionBytes,

    /** Rows first … first + count − 1 under the names of the graph; past and present are one. */
    view(first: number, count: number) {
      const inputs = new Map<string, Tensor>()
      const outputs = new Map<string, Tensor>()
      const dims = [count, numKvHeads, shape.capacity, headDim]
      for (const layer of layers) {
        const key = keys[layer]!.view(dims, startOf(shape, first, 0))
        const value = values[layer]!.view(dims, startOf(shape, first, 0))
        inputs.set(pastKey(layer), key).set(pastValue(layer), value)
        outputs.set(presentKey(layer), key).set(presentValue(layer), value)
      }
      return { inputs, outputs }
    },

    /** Moves into other memory with what the rows hold; views of before must be released already. */
    reshape(newShape: KvCacheShape, lengths: readonly number[]): void {
      // One by one: old and new are never there together whole.
      for (const tensors of [keys, values]) {
        for (const [layer, old] of tensors.entries()) tensors[layer] = moved(old, newShape, lengths)
      }
      shape = newShape
    },

    /** Copies positions start … start + count − 1 of a row over another's. */
    copyRow(from: number, to: number, start: number, count: number): void {
      const offset = startOf(shape, to, 0) - startOf(shape, from, 0)
      eachHead(from, start, (cache, at) => {
        cache.copyWithin(at + offset, at, at + count * headDim)
      })
    },

    /** Copies positions start … start + count − 1 of a row out of the cache. */
    savePositions(row: number, start: number, count: number): SavedPositions {
      const memory = allocateTensor('float32', [(count * positionBytes) / 4])
      const size = count * headDim
      eachHead(row, start, (cache, first, at) => {
        memory.data.set(cache.subarray(first, first + size), at * size)
      })
      return { memory, count, bytes: count * positionBytes, release: () => memory.release() }
    },

    /** Copies saved positions into a row, from position `start` on. */
    restorePositions(saved: SavedPositions, row: number, start: number): void {
      const size = saved.count * headDim
      eachHead(row, start, (cache, first, at) => {
        cache.set(saved.memory.data.subarray(at * size, (at + 1) * size), first)
      })
    },

    release(): void {
      for (const tensor of [...keys, ...values]) tensor.release()
    },
  }
}
