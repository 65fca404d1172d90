// Some of a graph's weights, read from the checkpoint, converted and written to their places in the
// weights file. Runs in the caller's thread or, as a task, beside others on the same file.

import { closeSync, openSync, writeSync } from 'node:fs'
import { openCheckpoint } from '../checkpoint/checkpoint.ts'
import { finiteTensors } from '../checkpoint/finite-tensors.ts'
import type { GraphTarget, WeightFormat } from '../contracts/checkpoint.ts'
import { buildDecoder } from '../graph/decoder.ts'
import { placeWeights } from '../graph/encoding.ts'
import { defineTask, type OnBytes } from '../threads/task.ts'
import { type Folds, foldedTensors } from './folded-tensors.ts'
import { isFolded } from './folded-weights.ts'

export interface ConvertPart {
  /** The checkpoint folder. */
  readonly dir: string
  /** The weights file, of its full size already. */
  readonly path: string
  readonly maxContext: number
  readonly format: WeightFormat
  readonly target: GraphTarget
  /** Indices of this part's weights in the graph's list. */
  readonly indices: readonly number[]
  /** The file holds what these change; null: it holds all weights, without adapters. */
  readonly folds: Folds | null
}

export function convertPart(part: ConvertPart, onBytes: OnBytes): void {
  const checkpoint = openCheckpoint(part.dir)
  const tensors = foldedTensors(finiteTensors(checkpoint.tensors), part.folds ?? new Map())
  // Sites for adapters bring no weights and move none.
  const graph = buildDecoder({
    ...part,
    config: checkpoint.config,
    tensors,
    sites: [],
    probe: null,
  })
  const { folds } = part
  const weights = graph.weights.filter((weight) => folds === null || isFolded(weight, folds))
  const { placements } = placeWeights({ weights })
  onBytes(0)
  const offsets = new Map(placements.map(({ tensor, offset }) => [tensor.name, offset]))
  const file = openSync(part.path, 'r+')
  try {
    for (const index of part.indices) {
      const weight = graph.weights[index]!
      const positions = weight.tensors.map(({ name }) => offsets.get(name) ?? 0)
      for (const piece of weight.pieces()) {
        let written = 0
        for (const [t, bytes] of piece.entries()) {
          writeAll(file, bytes, positions[t] ?? 0)
          positions[t] = (positions[t] ?? 0) + bytes.length
          written += bytes.length
        }
        onBytes(written)
      }
    }
  } finally {
    closeSync(file)
    checkpoint.close()
  }
}

function writeAll(file: number, bytes: Uint8Array, position: number): void {
  let written = 0
  while (written < bytes.length) {
    written += writeSync(file, bytes, written, bytes.length - written, position + written)
  }
}

export const convertPartTask = defineTask({ url: import.meta.url, run: convertPart })
