// The bytes of a graph's weights, converted into one file, by all cores where that helps.

import { truncateSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import type { WeightPlacement } from '../graph/encoding.ts'
import { runTasks } from '../threads/run-tasks.ts'
import { type ConvertPart, convertPart, convertPartTask } from './convert-part.ts'

/** Below this many parameters threads cost more than they bring. */
const threadsFrom = 50e6

export interface WeightsFile {
  readonly path: string
  /** Of the whole file. */
  readonly size: number
  /** Of each weight of the graph: 0 where it is in another file. */
  readonly bytes: readonly number[]
}

/** `part`: everything but the indices. */
export async function writeWeights(
  { path, size, bytes }: WeightsFile,
  part: Omit<ConvertPart, 'path' | 'indices'>,
  numParameters: number,
  onProgress: (done: number, total: number) => void,
): Promise<void> {
  // Of its full size from the start, so that parts may be written in any order.
  writeFileSync(path, '')
  truncateSync(path, size)
  const total = bytes.reduce((sum, size) => sum + size, 0)
  let done = 0

  function onBytes(more: number) {
    done += more
    onProgress(done, total)
  }

  // Threads take their time to start.
  onProgress(done, total)
  const isSmall = numParameters < threadsFrom
  const limit = isSmall ? 1 : Math.min(8, availableParallelism())
  const parts = shareWeights(bytes, limit).map((indices) => ({ ...part, path, indices }))
  if (isSmall) for (const part of parts) convertPart(part, onBytes)
  else await runTasks(convertPartTask, parts, { limit, onBytes })
}

/** Places of weights in `parts` lists of about equal bytes: the largest left goes to the lightest. */
export function shareWeights(bytes: readonly number[], parts: number): number[][] {
  const shares = Array.from({ length: parts }, () => ({ indices: [] as number[], bytes: 0 }))
  const bySize = [...bytes.keys()].sort((x, y) => bytes[y]! - bytes[x]!)
  for (const index of bySize) {
    if (bytes[index] === 0) continue
    const lightest = shares.reduce((x, y) => (y.bytes < x.bytes ? y : x))
    lightest.indices.push(index)
    lightest.bytes += bytes[index]!
  }
  return shares.map(({ indices }) => indices)
}

/** What each of a graph's weights takes of a file. */
export function bytesPerWeight(
  weights: ReadonlyArray<{ readonly tensors: ReadonlyArray<{ readonly name: string }> }>,
  placements: readonly WeightPlacement[],
): number[] {
  const sizes = new Map(placements.map(({ tensor, bytes }) => [tensor.name, bytes]))
  return weights.map(({ tensors }) =>
    tensors.reduce((sum, { name }) => sum + (sizes.get(name) ?? 0), 0),
  )
}
