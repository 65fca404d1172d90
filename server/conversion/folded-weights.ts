// Weights that adapters were folded into, beside the conversion of the base: a folder in the base's own,
// with the weights that changed and no others. A graph over both reads the rest from the base's file.

import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, rmSync, statSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import type { Graph, Weight } from '../graph/builder.ts'
import { placeWeights, type WeightPlacement, weightsFileName } from '../graph/encoding.ts'
import { checkFolder, discardFolder, publishFolder } from './converted-folder.ts'
import type { FoldedPair, Folds } from './folded-tensors.ts'
import { partialName } from './partial-folder.ts'

/** Of one base; the least recently used ones go. Who has one open keeps it. */
const maxKept = 4
const namePattern = /^folded\.[0-9a-f]{16}$/

export interface FoldedPlaces {
  /** Of all weights, each in its file. */
  readonly placements: readonly WeightPlacement[]
  /** Of those that changed. */
  readonly folded: readonly WeightPlacement[]
  /** Of the file that holds them. */
  readonly size: number
  /** Of the folder. */
  readonly name: string
}

export function isFolded({ matrices = [] }: Weight, folds: Folds): boolean {
  return matrices.some((name) => folds.has(name))
}

/** `graph`: of the folded tensors. `base`: where the base's graph has its weights. */
export function placeFolded(
  graph: Graph,
  folds: Folds,
  base: readonly WeightPlacement[],
): FoldedPlaces {
  const name = `folded.${keyOf(folds)}`
  const changed = graph.weights.filter((weight) => isFolded(weight, folds))
  const { placements: folded, size } = placeWeights(
    { weights: changed },
    `${name}/${weightsFileName}`,
  )
  const names = new Set(folded.map(({ tensor }) => tensor.name))
  // Changed weights may have other tensors than in the base, where the base keeps its file's numbers.
  const used = new Set(
    graph.weights.flatMap(({ tensors, aliases = [] }) =>
      [...tensors, ...aliases.map(({ tensor }) => tensor)].map((tensor) => tensor.name),
    ),
  )
  const kept = base.filter(({ tensor }) => used.has(tensor.name) && !names.has(tensor.name))
  return { placements: [...kept, ...folded], folded, size, name }
}

/** The vectors themselves and their strengths: the same names of files mean the same numbers. */
function keyOf(folds: Folds): string {
  const hash = createHash('sha256')
  for (const [name, pairs] of [...folds].sort(([x], [y]) => (x < y ? -1 : 1))) {
    hash.update(`${name}:${pairs.length};`)
    for (const { a, b, scale } of pairs) hash.update(`${scale};`).update(bytes(a)).update(bytes(b))
  }
  return hash.digest('hex').slice(0, 16)
}

function bytes(values: FoldedPair['a']): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

export interface FoldedWork {
  /** The base's folder. */
  readonly folder: string
  readonly places: FoldedPlaces
  readonly about: { readonly checkpoint: string; readonly madeFrom: unknown }
  readonly write: (path: string) => Promise<void>
  readonly onProgress: (done: number, total: number) => void
  readonly onFlush: (bytes: number) => void
  readonly onNotice: (message: string) => void
}

/** Converts only what no earlier merge left whole. */
export async function provideFolded(work: FoldedWork): Promise<void> {
  const { folder, places, about, write, onProgress, onFlush, onNotice } = work
  const path = join(folder, places.name)
  const state = await checkFolder(path, onProgress)
  if (state.kind === 'damaged') {
    onNotice(`${path} is damaged (${state.reason}): it is discarded and folded again.`)
    discardFolder(path)
  }
  if (state.kind !== 'whole') {
    const partial = partialName(folder)
    mkdirSync(partial)
    try {
      await write(join(partial, weightsFileName))
      await publishFolder(partial, path, { ...about, onProgress, onFlush })
    } finally {
      rmSync(partial, { recursive: true, force: true })
    }
  }
  keepNewest(folder, places.name)
}

/** A cache that is read-only stays as it is. */
function keepNewest(folder: string, used: string): void {
  try {
    const now = new Date()
    utimesSync(join(folder, used), now, now)
    const others = readdirSync(folder).filter((name) => namePattern.test(name) && name !== used)
    const aged = others.map((name) => ({ name, at: statSync(join(folder, name)).mtimeMs }))
    aged.sort((x, y) => y.at - x.at)
    for (const { name } of aged.slice(maxKept - 1)) discardFolder(join(folder, name))
  } catch (error) {
    if (typeof (error as NodeJS.ErrnoException).code !== 'string') throw error
  }
}
