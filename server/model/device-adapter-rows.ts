// Adapter rows in a device's memory: copies of the rows on the host, made one row at a time.

import type { FloatType } from '../contracts/float-type.ts'
import { createCopier } from '../runtime/device-copy.ts'
import type { Accelerator, DeviceTensor, Session, Tensor } from '../runtime/session.ts'

export interface RowMirrorOptions {
  readonly session: Session
  readonly accelerator: Accelerator
  readonly floats: FloatType
  readonly numTensors: number
}

export function createRowMirror(options: RowMirrorOptions) {
  const { session, floats, numTensors } = options
  const copier = createCopier({ ...options, rank: 3, depth: 1 })
  const tensors = new Array<DeviceTensor | undefined>(numTensors).fill(undefined)

  return {
    /** Takes memory for one tensor of this shape, [rows, …]. */
    layOut(index: number, dims: readonly number[]): void {
      tensors[index]?.release()
      tensors[index] = session.allocate(floats, dims)
    },

    /** Copies a row over from the host: `sources` are [1, …] of every tensor. */
    copyRow(row: number, sources: readonly Tensor[]): void {
      const from = BigInt64Array.of(0n)
      const to = BigInt64Array.of(BigInt(row))
      const targets = tensors as DeviceTensor[]
      copier.copy({ tensors: sources, indices: from }, { tensors: targets, indices: to })
    },

    tensor: (index: number): DeviceTensor => tensors[index]!,

    release(): void {
      for (const tensor of tensors) tensor?.release()
      copier.release()
    },
  }
}
