// Writes a checkpoint's graph to disk where ONNX Runtime can map it: model.onnx and weights.bin in
// a folder of the cache named by what they were made from. A folder appears only when complete.

import { createHash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import type { ModelConfig, TensorSource } from '../contracts/checkpoint.ts'
import { buildDecoder } from '../graph/decoder.ts'
import { encodeModel, placeWeights, weightsFileName } from '../graph/encoding.ts'

/** Raise when the graph or its weights' layout changes, so that older folders are not reused. */
const graphVersion = 1

export interface ConvertOptions {
  readonly config: ModelConfig
  readonly tensors: TensorSource
  /** The checkpoint's files: their names, sizes and times are part of the cache key. */
  readonly files: readonly string[]
  readonly maxContext: number
  readonly cacheDir: string
  readonly onProgress?: (done: number, total: number) => void
}

/** Returns the path of the graph file, converting only when no earlier result fits. */
export function convertCheckpoint(options: ConvertOptions): string {
  const folder = join(options.cacheDir, cacheKey(options))
  const modelPath = join(folder, 'model.onnx')
  if (existsSync(modelPath)) return modelPath

  const graph = buildDecoder(options)
  const { placements, size } = placeWeights(graph)
  const partial = `${folder}.${process.pid}.partial`
  mkdirSync(partial, { recursive: true })
  try {
    const file = openSync(join(partial, weightsFileName), 'w')
    try {
      for (const [i, weight] of graph.weights.entries()) {
        const values = weight.read()
        const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
        writeAll(file, bytes, placements[i]?.offset ?? 0)
        options.onProgress?.(i + 1, graph.weights.length)
      }
      if (size > 0) padTo(file, size)
    } finally {
      closeSync(file)
    }
    writeFileSync(join(partial, 'model.onnx'), encodeModel(graph, placements))
    publish(partial, folder)
  } finally {
    rmSync(partial, { recursive: true, force: true })
  }
  return modelPath
}

function cacheKey({ config, files, maxContext }: ConvertOptions): string {
  const hash = createHash('sha256')
  hash.update(JSON.stringify({ graphVersion, config, maxContext }))
  for (const path of files) {
    const { size, mtimeMs } = statSync(path)
    hash.update(JSON.stringify({ path, size, mtimeMs }))
    if (path.endsWith('.json')) hash.update(readFileSync(path))
  }
  return hash.digest('hex').slice(0, 32)
}

function writeAll(file: number, bytes: Uint8Array, position: number): void {
  let written = 0
  while (written < bytes.length) {
    written += writeSync(file, bytes, written, bytes.length - written, position + written)
  }
}

function padTo(file: number, size: number): void {
  writeSync(file, new Uint8Array(1), 0, 1, size)
}

/** Another process may have published the same folder meanwhile: then its result stands. */
function publish(partial: string, folder: string): void {
  try {
    renameSync(partial, folder)
  } catch (error) {
    if (!existsSync(folder)) throw error
  }
}
