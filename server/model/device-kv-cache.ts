// The KV cache in a device's memory; saved positions lie on the host. A view of device memory can only
// start where the memory starts. Decode steps therefore run on the first rows in place, as on the CPU. A
// prefill runs on a row apart, the staging row, which is copied into the cache before the first decode
// step that needs it.

import { floatBytes } from '../contracts/float-type.ts'
import { createCopier, type TensorIndices } from '../runtime/device-copy.ts'
import {
  type Accelerator,
  allocateTensor,
  type DeviceTensor,
  type Session,
  type Tensor,
} from '../runtime/session.ts'
import {
  type KvCache,
  type KvCacheOptions,
  type KvCacheShape,
  nameCacheTensors,
  positionBytesOf,
} from './kv-cache.ts'

export interface DeviceKvCacheOptions extends KvCacheOptions {
  readonly session: Session
  readonly accelerator: Accelerator
}

/** One row, or all of them: keys of all layers, then values. */
interface Memory {
  readonly tensors: DeviceTensor[]
}

/** Some positions of a row, from `start` on. */
interface Part {
  readonly row: number
  readonly start: number
  readonly count: number
}

export function createDeviceKvCache(options: DeviceKvCacheOptions): KvCache {
  const { config, floats, session, accelerator } = options
  const { numLayers, numKvHeads, headDim } = config
  const numTensors = 2 * numLayers
  const positionBytes = positionBytesOf(config, floats)
  const copierOptions = { accelerator, floats, rank: 4, depth: 3 }
  const copier = createCopier({ ...copierOptions, numTensors })
  /** Moves the cache tensor by tensor, so that the old and the new one are never in memory together. */
  const mover = createCopier({ ...copierOptions, numTensors: 1 })
  let shape: KvCacheShape = options
  const cache = allocate(shape)
  let staging = allocate({ ...shape, rows: 1 })
  /** Whose positions the staging row holds, and how many; they are not in the cache. */
  let staged: { row: number; length: number } | null = null

  function allocateOne({ rows, capacity }: KvCacheShape): DeviceTensor {
    return session.allocate(floats, [rows, numKvHeads, capacity, headDim])
  }

  function allocate(of: KvCacheShape): Memory {
    return { tensors: Array.from({ length: numTensors }, () => allocateOne(of)) }
  }

  function release({ tensors }: Memory): void {
    for (const tensor of tensors) tensor.release()
  }

  function at({ tensors }: Memory, ...parts: readonly Part[]) {
    return { tensors, indices: positions(parts, numKvHeads) }
  }

  /** Copies the staging row to its row of the cache. */
  function unstage(): void {
    if (staged === null) return
    const { row, length } = staged
    const part = { start: 0, count: length }
    copier.copy(at(staging, { ...part, row: 0 }), at(cache, { ...part, row }))
    staged = null
  }

  function view({ tensors }: Memory, numRows: number) {
    const dims = [numRows, numKvHeads, shape.capacity, headDim]
    return nameCacheTensors(tensors.map((tensor) => tensor.view(dims)))
  }

  /** Saved positions as a tensor for each of the cache's. */
  function hostViews(memory: Tensor, dims: readonly number[]): Tensor[] {
    const size = dims.reduce((product, dim) => product * dim, 1)
    return Array.from({ length: numTensors }, (_, i) => memory.view(dims, i * size))
  }

  return {
    positionBytes,

    prefillView(row, past, tokens) {
      if (staged?.row !== row) {
        unstage()
        const part = { start: 0, count: past }
        if (past > 0) copier.copy(at(cache, { ...part, row }), at(staging, { ...part, row: 0 }))
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

    reshape(next, lengths) {
      unstage()
      const parts = lengths.map((count, row) => ({ row, start: 0, count }))
      const indices = positions(parts, numKvHeads)
      for (const [i, old] of cache.tensors.entries()) {
        const tensor = allocateOne(next)
        mover.copy({ tensors: [old], indices }, { tensors: [tensor], indices })
        old.release()
        cache.tensors[i] = tensor
      }
      release(staging)
      staging = allocate({ ...next, rows: 1 })
      shape = next
    },

    copyRow(from, to, start, count) {
      const isStaged = staged?.row === from
      if (isStaged || staged?.row === to) unstage()
      if (isStaged && start === 0) {
        // The staging row goes on as the target; the source keeps what it holds.
        staged = { row: to, length: count }
        return
      }
      copier.copy(at(cache, { row: from, start, count }), at(cache, { row: to, start, count }))
    },

    savePositions(row, start, count) {
      const memory = allocateTensor(floats, [(count * positionBytes) / floatBytes[floats]])
      const results = hostViews(memory, [numKvHeads * count, headDim])
      const source = staged?.row === row ? staging : cache
      const part = { row: source === staging ? 0 : row, start, count }
      try {
        copier.read(at(source, part), results)
      } finally {
        for (const tensor of results) tensor.release()
      }
      return { memory, count, bytes: count * positionBytes, release: () => memory.release() }
    },

    restorePositions({ memory, count }, row, start) {
      if (staged?.row === row) unstage()
      const sources = hostViews(memory, [1, numKvHeads, count, headDim])
      const indices = positions([{ row: 0, start: 0, count }], numKvHeads)
      try {
        copier.copy({ tensors: sources, indices }, at(cache, { row, start, count }))
      } finally {
        for (const tensor of sources) tensor.release()
      }
    },

    release() {
      for (const own of [copier, mover]) own.release()
      for (const memory of [cache, staging]) release(memory)
    },
  }
}

/** Positions of rows, head by head, as [row, head, position]. */
function positions(parts: readonly Part[], numHeads: number): TensorIndices {
  const total = parts.reduce((sum, { count }) => sum + count, 0)
  const indices = new BigInt64Array(total * numHeads * 3)
  let i = 0
  for (const { row, start, count } of parts) {
    for (let head = 0; head < numHeads; head++) {
      for (let position = start; position < start + count; position++) {
        indices[i++] = BigInt(row)
        indices[i++] = BigInt(head)
        indices[i++] = BigInt(position)
      }
    }
  }
  return indices
}
