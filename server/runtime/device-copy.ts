// Moves parts of tensors about on a device, between tensors of it and to and from the host. A device
// lets nothing else than graphs at its memory, so each move is a run of a small one.

import type { FloatType } from '../contracts/float-type.ts'
import {
  buildCopy,
  buildRead,
  copyResult,
  copySource,
  copyTarget,
  sourceIndices,
  targetIndices,
} from '../graph/copy.ts'
import { encodeModel } from '../graph/encoding.ts'
import {
  type Accelerator,
  type AnyTensor,
  allocateTensor,
  type DeviceTensor,
  openSession,
  type Session,
  type Tensor,
} from './session.ts'

export interface CopierOptions {
  readonly accelerator: Accelerator
  readonly floats: FloatType
  /** Tensors that are always moved together. */
  readonly numTensors: number
  /** Dimensions of each tensor. */
  readonly rank: number
  /** How many first indices name a part. */
  readonly depth: number
}

/** The first indices of each part, one part after the other. */
export type TensorIndices = BigInt64Array

export function createCopier(options: CopierOptions) {
  const { accelerator, depth } = options
  const open = (graph: Uint8Array) => openSession({ graph, threads: 1, accelerator })
  // Opened when first wanted: not every copier does both.
  let copying: Session | undefined
  let reading: Session | undefined

  function run(
    session: Session,
    inputs: Map<string, AnyTensor>,
    outputs: Map<string, AnyTensor>,
    indices: Readonly<Record<string, TensorIndices>>,
  ): void {
    const made = Object.entries(indices).map(([name, values]) => {
      const tensor = allocateTensor('int64', [values.length / depth, depth])
      tensor.data.set(values)
      inputs.set(name, tensor)
      return tensor
    })
    const binding = session.bind(inputs, outputs)
    try {
      binding.runBlocking()
    } finally {
      binding.release()
      for (const tensor of made) tensor.release()
    }
  }

  return {
    /** Writes parts of sources, which may lie on the host, over parts of targets. */
    copy(
      {
        tensors: sources,
        indices: from,
      }: { tensors: readonly AnyTensor[]; indices: TensorIndices },
      {
        tensors: targets,
        indices: to,
      }: { tensors: readonly DeviceTensor[]; indices: TensorIndices },
    ): void {
      if (from.length === 0) return
      const inputs = new Map<string, AnyTensor>()
      const outputs = new Map<string, AnyTensor>()
      for (const [i, source] of sources.entries()) inputs.set(copySource(i), source)
      for (const [i, target] of targets.entries()) {
        inputs.set(copyTarget(i), target)
        outputs.set(copyResult(i), target)
      }
      copying ??= open(encodeModel(buildCopy(options), []))
      run(copying, inputs, outputs, { [sourceIndices]: from, [targetIndices]: to })
    },

    /** Copies parts to the host, one part after the other. */
    read(
      { tensors: sources, indices }: { tensors: readonly DeviceTensor[]; indices: TensorIndices },
      results: readonly Tensor[],
    ): void {
      const inputs = new Map<string, AnyTensor>(sources.map((tensor, i) => [copySource(i), tensor]))
      const outputs = new Map<string, AnyTensor>(
        results.map((tensor, i) => [copyResult(i), tensor]),
      )
      reading ??= open(encodeModel(buildRead(options), []))
      run(reading, inputs, outputs, { [sourceIndices]: indices })
    },

    release(): void {
      copying?.release()
      reading?.release()
    },
  }
}
