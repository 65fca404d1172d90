// Adapter rows in a device's memory: follows the rows on the host, one row at a time.

import type { FloatType } from '../contracts/checkpoint.ts'
import { createCopier } from './device-copy.ts'
import type { Accelerator, DeviceTensor, Session, Tensor } from './session.ts'

export interface RowMirrorOptions {
  readonly session: Session
  readonly accelerator: Accelerator
  readonly floats: FloatType
  readonly numTensors: number
}

export type RowMirror = ReturnType<typeof createRowMirror>

export function createRowMirror(options: RowMirrorOptions) {
  const { session, floats } = options
  const copier = createCopier({ ...options, rank: 3, depth: 1 })
  let tensors: readonly DeviceTensor[] = []

  function releaseTensors(): void {
    for (const tensor of tensors) tensor.release()
  }

  return {
    /** Takes memory for tensors of these shapes, [rows, …]. */
    layOut(shapes: ReadonlyArray<readonly number[]>): void {
      releaseTensors()
      tensors = shapes.map((dims) => session.allocate(floats, dims))
    },

    /** Copies a row over from the host: `sources` are [1, …]. */
    copyRow(row: number, sources: readonly Tensor[]): void {
      const first = BigInt64Array.of(0n)
      const place = BigInt64Array.of(BigInt(row))
      copier.copy({ tensors: sources, places: first }, { tensors, places: place })
    },

    tensor: (index: number) => tensors[index] as DeviceTensor,

    release(): void {
      releaseTensors()
      copier.release()
    },
  }
}
