// What the peers need on disk, made once under runs/bench: random checkpoints, their graphs, GGUF
// files and adapters. Everything here can be deleted; it is made again.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { LinearModule } from '../server/contracts/checkpoint.ts'
import { writeGgufModel } from './gguf/gguf-model.ts'
import { writeRandomAdapters } from './models/random-adapters.ts'
import { writeRandomCheckpoint } from './models/random-checkpoint.ts'
import { type ShapeName, shapes } from './models/shapes.ts'
import { type WeightType, weightTypes } from './models/weight-types.ts'
import { ensureGraph } from './peers/engine-runner.ts'

export interface BenchFiles {
  readonly root: string
  checkpoint(shape: ShapeName): string
  graphs: string
  gguf(shape: ShapeName, type: 'Q4_0' | 'Q8_0'): string
  openvino(shape: ShapeName, weights: WeightType): string
  adapters(shape: ShapeName): string
  ggufAdapters(shape: ShapeName): string
}

export function locateFiles(root: string): BenchFiles {
  const work = join(root, 'runs', 'bench')
  return {
    root,
    checkpoint: (shape) => join(work, shape),
    graphs: join(work, 'graphs'),
    openvino: (shape, weights) => join(work, `${shape}-openvino-${weights.split(' ')[0]}`),
    gguf: (shape, type) => join(work, `${shape}-${type}.gguf`),
    adapters: (shape) => join(work, 'adapters', shape),
    ggufAdapters: (shape) => join(work, 'gguf-adapters', shape),
  }
}

export function ensureCheckpoint(files: BenchFiles, shape: ShapeName): string {
  const folder = files.checkpoint(shape)
  writeRandomCheckpoint(shape, folder, join(files.root, 'models', 'tiny-reasoner'))
  return folder
}

export async function ensureOurGraph(
  files: BenchFiles,
  shape: ShapeName,
  weights: WeightType,
  sites: readonly LinearModule[],
  capacity: number,
): Promise<void> {
  const { format } = weightTypes[weights]
  if (format === null) throw new Error(`our engine has no ${weights}`)
  const checkpointDir = ensureCheckpoint(files, shape)
  await ensureGraph({ checkpointDir, cacheDir: files.graphs, format, sites, capacity })
}

export function ensureGguf(files: BenchFiles, shape: ShapeName, type: 'Q4_0' | 'Q8_0'): string {
  const path = files.gguf(shape, type)
  writeGgufModel(ensureCheckpoint(files, shape), type, path)
  return path
}

/** At least the first `count` adapters; others may be there from before. */
export function ensureAdapters(files: BenchFiles, shape: ShapeName, count: number): string {
  const root = files.adapters(shape)
  mkdirSync(root, { recursive: true })
  writeRandomAdapters(shapes[shape], count, root)
  return root
}
