// The KV cache: keys and values of all layers, rows × capacity positions in native memory. A row belongs
// to one sequence. The graph reads and appends in place; everything here copies between two steps. The
// cache changes its shape by moving into new memory, one layer after the other, all at once or some
// between one step and the next.

import type { ModelConfig } from '../contracts/checkpoint.ts'
import { type FloatType, floatBytes } from '../contracts/float-type.ts'
import { pastKey, pastValue, presentKey, presentValue } from '../graph/decoder.ts'
import { type AnyTensor, allocateTensor, type Tensor } from '../runtime/session.ts'

export interface KvCacheShape {
  /** Number of cache rows. */
  readonly rows: number
  /** Positions per row. */
  readonly capacity: number
}

export interface KvCacheOptions extends KvCacheShape {
  readonly config: ModelConfig
  /** Of keys and values. */
  readonly floats: FloatType
}

/** Some positions of a cache row, in memory of their own. */
interface SavedPositions {
  readonly memory: Tensor<FloatType>
  readonly count: number
  readonly bytes: number
  release(): void
}

export interface CacheView {
  readonly inputs: Map<string, AnyTensor>
  readonly outputs: Map<string, AnyTensor>
}

/** In host memory (below) or in a device's (device-kv-cache.ts). */
export interface KvCache {
  readonly positionBytes: number
  /** A row, as the graph appends `tokens` to its first `past` positions. */
  prefillView(row: number, past: number, tokens: number): CacheView
  /** Rows 0 … count − 1. Good for many runs, each after `beforeDecode`. */
  decodeView(count: number): CacheView
  beforeDecode(count: number): void
  /**
   * Moves into other memory with the first lengths[row] positions of each row; views of before must
   * be released already.
   */
  reshape(shape: KvCacheShape, lengths: readonly number[]): void
  /**
   * The same for some of its layers, until `maxBytes` are copied: true when all are in that shape. Between
   * two calls rows may be used and copied as far as both shapes go. Absent where a cache moves as a whole.
   */
  reshapePart?(shape: KvCacheShape, lengths: readonly number[], maxBytes: number): boolean
  /** Copies positions start … start + count − 1 of a row over another's. */
  copyRow(from: number, to: number, start: number, count: number): void
  /** Copies positions start … start + count − 1 of a row out of the cache. */
  savePositions(row: number, start: number, count: number): SavedPositions
  /** Copies saved positions into a row, from position `start` on. */
  restorePositions(saved: SavedPositions, row: number, start: number): void
  release(): void
}

export function positionBytesOf(
  { numLayers, numKvHeads, headDim }: ModelConfig,
  floats: FloatType,
): number {
  return 2 * numLayers * numKvHeads * headDim * floatBytes[floats]
}

/** Keys of all layers, then values, under the names of the graph; past and present are one. */
export function nameCacheTensors(tensors: readonly AnyTensor[]): CacheView {
  const inputs = new Map<string, AnyTensor>()
  const outputs = new Map<string, AnyTensor>()
  const numLayers = tensors.length / 2
  for (let layer = 0; layer < numLayers; layer++) {
    const key = tensors[layer]!
    const value = tensors[numLayers + layer]!
    inputs.set(pastKey(layer), key).set(pastValue(layer), value)
    outputs.set(presentKey(layer), key).set(presentValue(layer), value)
  }
  return { inputs, outputs }
}

/** Keys or values of a layer; while the cache moves, some are in the new shape already. */
interface Part {
  readonly tensor: Tensor<FloatType>
  readonly shape: KvCacheShape
}

export function createKvCache({ config, floats, ...first }: KvCacheOptions): KvCache {
  const { numLayers, numKvHeads, headDim } = config
  const positionBytes = positionBytesOf(config, floats)
  /** Keys of all layers, then values. */
  const parts: Part[] = Array.from({ length: 2 * numLayers }, () => allocate(first))

  function allocate(shape: KvCacheShape): Part {
    const dims = [shape.rows, numKvHeads, shape.capacity, headDim]
    return { tensor: allocateTensor(floats, dims), shape }
  }

  function startOf({ capacity }: KvCacheShape, row: number, head: number): number {
    return (row * numKvHeads + head) * capacity * headDim
  }

  /** Visits some positions of a row head by head: their first element, the at-th head. */
  function eachHead(
    row: number,
    from: number,
    visit: (part: Part, start: number, at: number) => void,
  ): void {
    let at = 0
    for (const part of parts) {
      for (let head = 0; head < numKvHeads; head++) {
        visit(part, startOf(part.shape, row, head) + from * headDim, at++)
      }
    }
  }

  /** A tensor in a new shape, with the first lengths[row] positions of each row. */
  function moved(old: Part, shape: KvCacheShape, lengths: readonly number[]): Part {
    const part = allocate(shape)
    for (const [row, length] of lengths.entries()) {
      for (let head = 0; head < numKvHeads; head++) {
        const start = startOf(old.shape, row, head)
        const kept = old.tensor.data.subarray(start, start + length * headDim)
        part.tensor.data.set(kept, startOf(shape, row, head))
      }
    }
    old.tensor.release()
    return part
  }

  /**
   * Keys and values of one layer after the other, so that the old and the new cache are never in memory
   * together. A layer's two have the same shape at any time.
   */
  function reshapePart(shape: KvCacheShape, lengths: readonly number[], maxBytes: number): boolean {
    const positions = lengths.reduce((sum, length) => sum + length, 0)
    const layerBytes = (positions * positionBytes) / numLayers
    let bytes = 0
    for (let layer = 0; layer < numLayers; layer++) {
      const { rows, capacity } = parts[layer]!.shape
      if (rows === shape.rows && capacity === shape.capacity) continue
      if (bytes > 0 && bytes + layerBytes > maxBytes) return false
      for (const i of [layer, numLayers + layer]) parts[i] = moved(parts[i]!, shape, lengths)
      bytes += layerBytes
    }
    return true
  }

  /** Rows first … first + count − 1. */
  function view(first: number, count: number): CacheView {
    const views = parts.map(({ tensor, shape }) => {
      const dims = [count, numKvHeads, shape.capacity, headDim]
      return tensor.view(dims, startOf(shape, first, 0))
    })
    return nameCacheTensors(views)
  }

  return {
    positionBytes,
    prefillView: (row) => view(row, 1),
    decodeView: (count) => view(0, count),
    beforeDecode: () => {},

    reshape: (shape, lengths) => void reshapePart(shape, lengths, Number.POSITIVE_INFINITY),
    reshapePart,

    copyRow(from, to, start, count) {
      eachHead(from, start, ({ tensor, shape }, at) => {
        const offset = startOf(shape, to, 0) - startOf(shape, from, 0)
        tensor.data.copyWithin(at + offset, at, at + count * headDim)
      })
    },

    savePositions(row, start, count) {
      const memory = allocateTensor(floats, [(count * positionBytes) / floatBytes[floats]])
      const size = count * headDim
      eachHead(row, start, ({ tensor }, first, at) => {
        memory.data.set(tensor.data.subarray(first, first + size), at * size)
      })
      return { memory, count, bytes: count * positionBytes, release: () => memory.release() }
    },

    restorePositions(saved, row, start) {
      const size = saved.count * headDim
      eachHead(row, start, ({ tensor }, first, at) => {
        tensor.data.set(saved.memory.data.subarray(at * size, (at + 1) * size), first)
      })
    },

    release() {
      for (const { tensor } of parts) tensor.release()
    },
  }
}
