// Writes a checkpoint's graph to disk where ONNX Runtime can map it: model.onnx and weights.bin in
// a folder of the cache named by what they were made from. A folder appears only when complete.

import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { FloatType, LinearModule, ModelConfig, WeightFormat } from '../contracts/checkpoint.ts'
import { buildDecoder } from '../graph/decoder.ts'
import {
  encodeModel,
  placeWeights,
  type WeightPlacement,
  weightsFileName,
} from '../graph/encoding.ts'
import type { Checkpoint } from './checkpoint.ts'
import { type ConvertPart, convertPart } from './convert-part.ts'

/** Raise when the graph or its weights' layout changes, so that older folders are not reused. */
const graphVersion = 5
/** A graph of the first layers only, beside the whole one: what a device is tried with. */
const probeFileName = 'probe.onnx'
const probeLayers = 2
/** Below this many parameters threads cost more than they bring. */
const threadsFrom = 50e6
const workerUrl = new URL(`./convert-part${import.meta.url.slice(-3)}`, import.meta.url)

export interface ConvertOptions {
  readonly dir: string
  readonly checkpoint: Checkpoint
  readonly maxContext: number
  readonly format: WeightFormat
  readonly floats: FloatType
  readonly sites: readonly LinearModule[]
  readonly cacheDir: string
  readonly onProgress?: (done: number, total: number) => void
}

/** Returns the path of the graph file, converting only when no earlier result fits. */
export async function convertCheckpoint(options: ConvertOptions): Promise<string> {
  const { checkpoint, maxContext, format, floats, sites, onProgress = () => {} } = options
  const folder = join(options.cacheDir, cacheKey(options))
  const modelPath = join(folder, 'model.onnx')
  if (existsSync(modelPath)) return modelPath

  const { config, tensors } = checkpoint
  const graph = buildDecoder({ config, tensors, maxContext, format, floats, sites })
  const { placements, size } = placeWeights(graph)
  const partial = `${folder}.${process.pid}.partial`
  mkdirSync(partial, { recursive: true })
  try {
    const path = join(partial, weightsFileName)
    writeFileSync(path, '')
    truncateSync(path, size)
    const total = graph.weights.length
    let done = 0
    const onWeight = () => onProgress(++done, total)
    const parts = checkpoint.numParameters < threadsFrom ? 1 : Math.min(8, availableParallelism())
    const part = (index: number): ConvertPart => {
      return { dir: options.dir, path, maxContext, format, floats, sites, index, parts }
    }
    if (parts === 1) convertPart(part(0), onWeight)
    else {
      const indices = Array.from({ length: parts }, (_, index) => index)
      await Promise.all(indices.map((index) => runWorker(part(index), onWeight)))
    }
    writeFileSync(join(partial, 'model.onnx'), encodeModel(graph, placements))
    writeFileSync(join(partial, probeFileName), encodeProbe(options, placements))
    publish(partial, folder)
  } finally {
    rmSync(partial, { recursive: true, force: true })
  }
  return modelPath
}

const probeConfig = (config: ModelConfig): ModelConfig => ({
  ...config,
  numLayers: Math.min(config.numLayers, probeLayers),
})

/** The graph of the first layers that was written beside a whole one. */
export const probeOf = (graphPath: string, config: ModelConfig) => ({
  graphPath: join(dirname(graphPath), probeFileName),
  config: probeConfig(config),
})

/** The graph cut down to its first layers, over the same weights file. */
function encodeProbe(
  { checkpoint: { config, tensors }, maxContext, format, floats, sites }: ConvertOptions,
  placements: readonly WeightPlacement[],
): Uint8Array {
  const probe = probeConfig(config)
  const graph = buildDecoder({ config: probe, tensors, maxContext, format, floats, sites })
  const used = new Set(placeWeights(graph).placements.map(({ tensor }) => tensor.name))
  return encodeModel(
    graph,
    placements.filter(({ tensor }) => used.has(tensor.name)),
  )
}

function runWorker(part: ConvertPart, onWeight: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(workerUrl, { workerData: part })
    worker.on('message', onWeight)
    worker.once('error', reject)
    worker.once('exit', (code) => {
      if (code === 0) resolve()
      else reject(new Error(`a converting thread ended with code ${code}`))
    })
  })
}

function cacheKey({ checkpoint, maxContext, format, floats, sites }: ConvertOptions): string {
  const hash = createHash('sha256')
  const { config, files } = checkpoint
  hash.update(JSON.stringify({ graphVersion, config, maxContext, format, floats, sites }))
  for (const { path } of files) {
    const { size, mtimeMs } = statSync(path)
    hash.update(JSON.stringify({ path, size, mtimeMs }))
    if (path.endsWith('.json')) hash.update(readFileSync(path))
  }
  return hash.digest('hex').slice(0, 32)
}

/** Another process may have published the same folder meanwhile: then its result stands. */
function publish(partial: string, folder: string): void {
  try {
    renameSync(partial, folder)
  } catch (error) {
    if (!existsSync(folder)) throw error
  }
}
