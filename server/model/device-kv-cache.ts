// The KV cache in a device's memory; what is saved of it lies on the host. A view of device memory
// starts where the memory starts, so decode steps run on the first rows in place, as on the CPU,
// while a prefill runs on one row apart, the staging row, which takes its place in the cache when the
// first decode step wants it.

import { createCopier, type Places } from './device-copy.ts'
import {
  type KvCache,
  type KvCacheOptions,
  nameCacheTensors,
  type SavedCacheRow,
} from './kv-cache.ts'
import {
  type Accelerator,
  allocateTensor,
  type DeviceTensor,
  type Session,
  type Tensor,
} from './session.ts'

export interface DeviceKvCacheOptions extends KvCacheOptions {
  readonly session: Session
  readonly accelerator: Accelerator
}

/** One row, or all of them: keys of all layers, then values. */
interface Memory {
  readonly tensors: readonly DeviceTensor[]
}

export type DeviceKvCache = KvCache & {
  /** Takes memory of another capacity and keeps the first `lengths[row]` positions of each row. */
  grow(capacity: number, lengths: readonly number[]): void
}

export function createDeviceKvCache(options: DeviceKvCacheOptions): DeviceKvCache {
  const { config, rows, floats, session, accelerator } = options
  const { numLayers, numKvHeads, headDim } = config
  const numTensors = 2 * numLayers
  const floatBytes = floats === 'float16' ? 2 : 4
  const positionBytes = numTensors * numKvHeads * headDim * floatBytes
  const copier = createCopier({ accelerator, floats, numTensors, rank: 4, depth: 3 })
  let { capacity } = options
  let cache = allocate(rows)
  let staging = allocate(1)
  /** Whose positions the staging row holds, and how many; they are not in the cache. */
  let staged: { row: number; length: number } | null = null

  function allocate(numRows: number): Memory {
    const dims = [numRows, numKvHeads, capacity, headDim]
    const tensors = Array.from({ length: numTensors }, () => session.allocate(floats, dims))
    return { tensors }
  }

  const at = (
    { tensors }: Memory,
    ...parts: ReadonlyArray<readonly [row: number, length: number]>
  ) => ({
    tensors,
    places: positions(parts, numKvHeads),
  })

  /** Puts the staging row where it belongs. */
  function unstage(): void {
    if (staged === null) return
    const { row, length } = staged
    copier.copy(at(staging, [0, length]), at(cache, [row, length]))
    staged = null
  }

  function view({ tensors }: Memory, numRows: number) {
    const dims = [numRows, numKvHeads, capacity, headDim]
    return nameCacheTensors(tensors.map((tensor) => tensor.view(dims)))
  }

  return {
    prefillView(row, past, tokens) {
      if (staged?.row !== row) {
        unstage()
        if (past > 0) copier.copy(at(cache, [row, past]), at(staging, [0, past]))
      }
      staged = { row, length: past + tokens }
      return view(staging, 1)
    },

    decodeView(count) {
      return view(cache, count)
    },

    beforeDecode(count) {
      if (staged !== null && staged.row < count) unstage()
    },

    copyRow(from, to, length) {
      if (staged?.row === from) {
        // The staging row goes on as the target; the source keeps what it holds.
        unstage()
        staged = { row: to, length }
        return
      }
      if (staged?.row === to) staged = null
      copier.copy(at(cache, [from, length]), at(cache, [to, length]))
    },

    savedBytes: (length) => length * positionBytes,

    saveRow(row, length): SavedCacheRow {
      const memory = allocateTensor(floats, [(length * positionBytes) / floatBytes])
      const results = hostViews(memory, [numKvHeads * length, headDim])
      const source = staged?.row === row ? at(staging, [0, length]) : at(cache, [row, length])
      try {
        copier.read(source, results)
      } finally {
        for (const tensor of results) tensor.release()
      }
      return { memory, length, bytes: length * positionBytes, release: () => memory.release() }
    },

    restoreRow(saved, row, length) {
      if (staged?.row !== row) unstage()
      const sources = hostViews(saved.memory, [1, numKvHeads, saved.length, headDim])
      const places = positions([[0, length]], numKvHeads)
      try {
        copier.copy({ tensors: sources, places }, at(staging, [0, length]))
      } finally {
        for (const tensor of sources) tensor.release()
      }
      staged = { row, length }
    },

    grow(newCapacity, lengths) {
      unstage()
      const old = [cache, staging]
      const parts = lengths.map((length, row) => [row, length] as const)
      const from = at(cache, ...parts)
      capacity = newCapacity
      cache = allocate(rows)
      staging = allocate(1)
      copier.copy(from, at(cache, ...parts))
      for (const { tensors } of old) for (const tensor of tensors) tensor.release()
    },

    release(): void {
      copier.release()
      for (const { tensors } of [cache, staging]) for (const tensor of tensors) tensor.release()
    },
  }

  function hostViews(memory: Tensor, dims: readonly number[]): Tensor[] {
    const size = dims.reduce((product, dim) => product * dim, 1)
    return Array.from({ length: numTensors }, (_, i) => memory.view(dims, i * size))
  }
}

/** The first `length` positions of rows, head by head, as [row, head, position]. */
function positions(
  parts: ReadonlyArray<readonly [row: number, length: number]>,
  numHeads: number,
): Places {
  const total = parts.reduce((sum, [, length]) => sum + length, 0)
  const places = new BigInt64Array(total * numHeads * 3)
  let i = 0
  for (const [row, length] of parts) {
    for (let head = 0; head < numHeads; head++) {
      for (let position = 0; position < length; position++) {
        places[i++] = BigInt(row)
        places[i++] = BigInt(head)
        places[i++] = BigInt(position)
      }
    }
  }
  return places
}
