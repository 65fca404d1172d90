// Writes a checkpoint's weights and graph to disk where ONNX Runtime can map them: a folder of the cache,
// named by the contents that the weights were made from, holds weights.bin and every graph over it. The
// folder appears only when its weights are complete; graphs join them, each whole.

import { createHash } from 'node:crypto'
import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, join } from 'node:path'
import { baseDigestOf } from '../checkpoint/base-digest.ts'
import type { Checkpoint } from '../checkpoint/checkpoint.ts'
import { freeBytes } from '../checkpoint/disk-space.ts'
import { isSameStamp, stampOf } from '../checkpoint/file-stamp.ts'
import { attestedDigest } from '../checkpoint/gguf-note.ts'
import { readableBytes } from '../contracts/bytes.ts'
import {
  cpuTarget,
  type GraphTarget,
  type LinearModule,
  type ModelConfig,
  type WeightFormat,
} from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'
import { buildDecoder } from '../graph/decoder.ts'
import {
  encodeModel,
  placeWeights,
  type WeightPlacement,
  weightsFileName,
} from '../graph/encoding.ts'
import { runTasks } from '../threads/run-tasks.ts'
import { explainDiskError, makeCacheFolder, requireSpace } from './cache-disk.ts'
import { type ConvertPart, convertPart, convertPartTask } from './convert-part.ts'
import { checkFolder, discardFolder, publishFolder } from './converted-folder.ts'
import { type HashedFile, knownHashes } from './file-hashes.ts'
import { probePath, writeGraphs } from './graph-files.ts'
import { removeOldConversions } from './old-conversions.ts'
import { partialName, removeLeftovers } from './partial-folder.ts'

/**
 * Raise when the graph changes what lies in weights.bin or where: older folders are removed, not reused.
 * Any other change of the graph makes a graph file of another name.
 */
const graphVersion = 12
const probeLayers = 2
/** Below this many parameters threads cost more than they bring. */
const threadsFrom = 50e6
/** What a folder takes besides the weights: the graphs. */
const spareBytes = 16 << 20

/** Phases whose bytes are counted. */
type ConversionPhase =
  | 'reading the checkpoint'
  | 'converting weights'
  | 'checking converted weights'

export interface ConvertOptions {
  readonly dir: string
  readonly checkpoint: Checkpoint
  readonly maxContext: number
  readonly format: WeightFormat
  /** The CPU unless said. */
  readonly target?: GraphTarget
  readonly sites: readonly LinearModule[]
  readonly cacheDir: string
  readonly onProgress?: (what: ConversionPhase, done: number, total: number) => void
  /** Called before so many bytes are flushed to the disk, which blocks. */
  readonly onFlush?: (bytes: number) => void
  /** Told what an operator should know: a damaged folder, leftovers, what an earlier version left. */
  readonly onNotice?: (message: string) => void
  /** Free bytes of a folder's disk; null: unknown. */
  readonly freeBytesOf?: (dir: string) => number | null
}

export interface ConvertedCheckpoint {
  readonly graphPath: string
  /** Digest of the weights it was made from, or of the GGUF file that those were exported from. */
  readonly baseDigest: string
}

/**
 * Converts only when no earlier result fits. Weights do not depend on the sites: another set of them
 * only adds a graph.
 */
export async function convertCheckpoint(options: ConvertOptions): Promise<ConvertedCheckpoint> {
  const { cacheDir, onProgress = () => {}, onNotice = () => {}, onFlush = () => {} } = options

  function progressOf(what: ConversionPhase) {
    return (done: number, total: number) => onProgress(what, done, total)
  }

  const { graph, placements, size } = layOut(options)
  const needed = size + spareBytes
  try {
    makeCacheFolder(cacheDir)
    for (const name of removeLeftovers(cacheDir)) {
      onNotice(`${name} was left in the cache by a process that died: removed.`)
    }
    const old = removeOldConversions(cacheDir, graphVersion)
    if (old.count > 0) {
      onNotice(
        `${old.count} of the conversions in ${cacheDir} were made by an earlier version, which this ` +
          `one cannot use: removed, ${readableBytes(old.bytes)} freed.`,
      )
    }
    const onHashed = progressOf('reading the checkpoint')
    const sources = await knownHashes(contentPaths(options), { cacheDir, onProgress: onHashed })
    const madeFrom = describe(options, sources)
    const folder = join(cacheDir, keyOf(madeFrom))
    const state = await checkFolder(folder, progressOf('checking converted weights'))
    if (state.kind === 'damaged') {
      onNotice(`${folder} is damaged (${state.reason}): it is discarded and converted again.`)
      discardFolder(folder)
    }
    if (state.kind !== 'whole') {
      requireSpace(cacheDir, needed, (options.freeBytesOf ?? freeBytes)(cacheDir))
      const partial = partialName(folder)
      mkdirSync(partial)
      try {
        const path = join(partial, weightsFileName)
        createFile(path, size)
        const bytes = graph.weights.map(({ tensors }) => bytesOf(tensors, placements))
        await convertWeights(options, path, bytes, progressOf('converting weights'))
        requireUnchanged(sources)
        const onProgress = progressOf('checking converted weights')
        const about = { checkpoint: options.dir, madeFrom }
        await publishFolder(partial, folder, { ...about, onProgress, onFlush })
      } finally {
        rmSync(partial, { recursive: true, force: true })
      }
    }
    const graphs = {
      model: encodeModel(graph, placements),
      probe: encodeProbe(options, placements),
    }
    const names = sources.map(({ path, sha256 }) => ({ name: basename(path), sha256 }))
    return {
      graphPath: writeGraphs(folder, graphs, onNotice),
      baseDigest: attestedDigest(options.dir, baseDigestOf(names), onNotice),
    }
  } catch (error) {
    throw explainDiskError(error, cacheDir, needed)
  }
}

/** What the weights take in that format, on disk and in memory. */
export function convertedBytes(options: Layout): number {
  return layOut(options).size
}

/** The attention kernel takes no other sizes of a head than multiples of this. */
const headMultiple = 16

type Layout = Pick<ConvertOptions, 'checkpoint' | 'maxContext' | 'format' | 'target' | 'sites'>

function layOut({ checkpoint, maxContext, format, target = cpuTarget, sites }: Layout) {
  const { config, tensors } = checkpoint
  if (config.headDim % headMultiple !== 0) {
    throw new ServerError(
      'unsupported_checkpoint',
      `config.json: head_dim is ${config.headDim}; only multiples of ${headMultiple} are supported.`,
    )
  }
  const graph = buildDecoder({ config, tensors, maxContext, format, target, sites })
  return { graph, ...placeWeights(graph) }
}

function probeConfig(config: ModelConfig): ModelConfig {
  return {
    ...config,
    numLayers: Math.min(config.numLayers, probeLayers),
  }
}

/** The graph of the first layers that was written beside a whole one. */
export function probeOf(graphPath: string, config: ModelConfig) {
  return {
    graphPath: probePath(graphPath),
    config: probeConfig(config),
  }
}

/** The graph cut down to its first layers, over the same weights file. */
function encodeProbe(
  { checkpoint, maxContext, format, target = cpuTarget, sites }: ConvertOptions,
  placements: readonly WeightPlacement[],
): Uint8Array {
  const config = probeConfig(checkpoint.config)
  const { tensors } = checkpoint
  const graph = buildDecoder({ config, tensors, maxContext, format, target, sites })
  const used = new Set(placeWeights(graph).placements.map(({ tensor }) => tensor.name))
  return encodeModel(
    graph,
    placements.filter(({ tensor }) => used.has(tensor.name)),
  )
}

/** Of its full size from the start, so that parts may be written in any order. */
function createFile(path: string, size: number): void {
  writeFileSync(path, '')
  truncateSync(path, size)
}

async function convertWeights(
  { dir, checkpoint, maxContext, format, target = cpuTarget }: ConvertOptions,
  path: string,
  bytes: readonly number[],
  onProgress: (done: number, total: number) => void,
): Promise<void> {
  const total = bytes.reduce((sum, size) => sum + size, 0)
  let done = 0

  function onBytes(more: number) {
    done += more
    onProgress(done, total)
  }

  const isSmall = checkpoint.numParameters < threadsFrom
  const limit = isSmall ? 1 : Math.min(8, availableParallelism())
  const parts = shareWeights(bytes, limit).map((indices): ConvertPart => {
    return { dir, path, maxContext, format, target, indices }
  })
  if (isSmall) for (const part of parts) convertPart(part, onBytes)
  else await runTasks(convertPartTask, parts, { limit, onBytes })
}

/** Places of weights in `parts` lists of about equal bytes: the largest left goes to the lightest. */
export function shareWeights(bytes: readonly number[], parts: number): number[][] {
  const shares = Array.from({ length: parts }, () => ({ indices: [] as number[], bytes: 0 }))
  const bySize = [...bytes.keys()].sort((x, y) => bytes[y]! - bytes[x]!)
  for (const index of bySize) {
    const lightest = shares.reduce((x, y) => (y.bytes < x.bytes ? y : x))
    lightest.indices.push(index)
    lightest.bytes += bytes[index]!
  }
  return shares.map(({ indices }) => indices)
}

function bytesOf(
  tensors: ReadonlyArray<{ readonly name: string }>,
  placements: readonly WeightPlacement[],
): number {
  const names = new Set(tensors.map(({ name }) => name))
  return placements
    .filter(({ tensor }) => names.has(tensor.name))
    .reduce((sum, { bytes }) => sum + bytes, 0)
}

/** The files that the weights are made from; which tensor is in which shard says the index. */
function contentPaths({ checkpoint }: ConvertOptions): string[] {
  return checkpoint.files
    .map(({ path }) => path)
    .filter((path) => basename(path) !== 'generation_config.json')
}

function describe(options: ConvertOptions, sources: readonly HashedFile[]) {
  const { checkpoint, maxContext, format, target = cpuTarget } = options
  const { operators, floats } = target // Whatever the kernels and the cache: they share the weights.
  return {
    graphVersion,
    files: sources.map(({ path, sha256 }) => ({ name: basename(path), sha256 })),
    config: checkpoint.config,
    maxContext,
    format,
    target: { operators, floats },
  }
}

function keyOf(madeFrom: unknown): string {
  return createHash('sha256').update(JSON.stringify(madeFrom)).digest('hex').slice(0, 32)
}

function requireUnchanged(sources: readonly HashedFile[]): void {
  for (const { path, stamp } of sources) {
    if (isSameStamp(stampOf(path), stamp)) continue
    throw new ServerError(
      'invalid_checkpoint',
      `${basename(path)} changed while it was converted: start again when it is complete.`,
    )
  }
}
