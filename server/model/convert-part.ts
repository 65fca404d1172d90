// Every parts-th weight of a graph, read from the checkpoint, converted and written to its place in
// the weights file. Runs in the caller's thread or, as a worker, beside others on the same file.

import { closeSync, openSync, writeSync } from 'node:fs'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import type { FloatType, LinearModule, WeightFormat } from '../contracts/checkpoint.ts'
import { buildDecoder } from '../graph/decoder.ts'
import { placeWeights } from '../graph/encoding.ts'
import { openCheckpoint } from './checkpoint.ts'

export interface ConvertPart {
  /** The checkpoint folder. */
  readonly dir: string
  /** The weights file, of its full size already. */
  readonly path: string
  readonly maxContext: number
  readonly format: WeightFormat
  readonly floats: FloatType
  readonly sites: readonly LinearModule[]
  readonly index: number
  readonly parts: number
}

export function convertPart(part: ConvertPart, onWeight: () => void): void {
  const checkpoint = openCheckpoint(part.dir)
  const graph = buildDecoder({ ...checkpoint, ...part })
  const { placements } = placeWeights(graph)
  const offsets = new Map(placements.map(({ tensor, offset }) => [tensor.name, offset]))
  const file = openSync(part.path, 'r+')
  try {
    for (const [i, weight] of graph.weights.entries()) {
      if (i % part.parts !== part.index) continue
      const positions = weight.tensors.map(({ name }) => offsets.get(name) ?? 0)
      for (const piece of weight.pieces()) {
        for (const [t, bytes] of piece.entries()) {
          writeAll(file, bytes, positions[t] ?? 0)
          positions[t] = (positions[t] ?? 0) + bytes.length
        }
      }
      onWeight()
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

if (!isMainThread && parentPort !== null) {
  const port = parentPort
  convertPart(workerData as ConvertPart, () => port.postMessage(null))
}
