// Writes a checkpoint's weights and graph to disk where ONNX Runtime can map them: a folder of the cache,
// named by the contents that the weights were made from, holds weights.bin and every graph over it. The
// folder appears only when its weights are complete; graphs join them, each whole.

import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Checkpoint } from '../checkpoint/checkpoint.ts'
import { freeBytes } from '../checkpoint/disk-space.ts'
import { isSameStamp, stampOf } from '../checkpoint/file-stamp.ts'
import { readableBytes } from '../contracts/bytes.ts'
import {
  cpuTarget,
  type GraphTarget,
  type LinearModule,
  type ModelConfig,
  type ProbePlace,
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
import { hashBase } from './base.ts'
import { explainDiskError, makeCacheFolder, requireSpace } from './cache-disk.ts'
import { checkFolder, discardFolder, publishFolder } from './converted-folder.ts'
import type { HashedFile } from './file-hashes.ts'
import { type Folds, foldedTensors } from './folded-tensors.ts'
import { placeFolded, provideFolded } from './folded-weights.ts'
import { probePath, verdictPath, writeGraphs } from './graph-files.ts'
import { removeOldConversions } from './old-conversions.ts'
import { partialName, removeLeftovers } from './partial-folder.ts'
import { bytesPerWeight, type WeightsFile, writeWeights } from './weights-file.ts'

/**
 * Raise when the graph changes what lies in weights.bin or where: older folders are removed, not reused.
 * Any other change of the graph makes a graph file of another name.
 */
const graphVersion = 15
const probeLayers = 2
/** What a folder takes besides the weights: the graphs. */
const spareBytes = 16 << 20

/** Phases whose bytes are counted. */
type ConversionPhase =
  | 'reading the checkpoint'
  | 'converting weights'
  | 'folding adapters'
  | 'checking converted weights'

export interface ConvertOptions {
  readonly dir: string
  readonly checkpoint: Checkpoint
  readonly maxContext: number
  readonly format: WeightFormat
  /** The CPU unless said. */
  readonly target?: GraphTarget
  readonly sites: readonly LinearModule[]
  /** Where the graph has a probe; null or left out: nowhere. */
  readonly probe?: ProbePlace | null
  /** Adapters that become part of the weights; none by default. */
  readonly folds?: Folds
  /** The sites of a graph of its own for verdicts; null or left out: there is none. */
  readonly verdictSites?: readonly LinearModule[] | null
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
  /** The graph of verdicts and the weights of both; null: there is none. */
  readonly verdicts: VerdictGraph | null
  /** Digest of the weights it was made from, or of the GGUF file that those were exported from. */
  readonly baseDigest: string
}

interface VerdictGraph {
  readonly graphPath: string
  readonly sites: readonly LinearModule[]
  readonly weights: { readonly folder: string; readonly placements: readonly WeightPlacement[] }
}

/**
 * Converts only when no earlier result fits. Weights depend on neither sites nor probe: others only
 * add a graph.
 */
export async function convertCheckpoint(options: ConvertOptions): Promise<ConvertedCheckpoint> {
  const { cacheDir, onProgress = () => {}, onNotice = () => {}, onFlush = () => {} } = options

  function progressOf(what: ConversionPhase) {
    return (done: number, total: number) => onProgress(what, done, total)
  }

  const { folds = new Map() } = options
  const { graph, placements, size } = layOut({ ...options, folds: new Map() })
  let needed = size + spareBytes
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
    const { sources, digest } = await hashBase({ ...options, onProgress: onHashed })
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
        const bytes = bytesPerWeight(graph.weights, placements)
        const file = { path: join(partial, weightsFileName), size, bytes }
        await convertWeights(options, file, null, progressOf('converting weights'))
        requireUnchanged(sources)
        const onProgress = progressOf('checking converted weights')
        const about = { checkpoint: options.dir, madeFrom }
        await publishFolder(partial, folder, { ...about, onProgress, onFlush })
      } finally {
        rmSync(partial, { recursive: true, force: true })
      }
    }
    const merged = folds.size === 0 ? null : placeMerged(options, folds, placements)
    if (merged !== null) {
      const { places, bytes } = merged
      const path = join(folder, places.name)
      needed = places.size + spareBytes
      if (!existsSync(path)) {
        requireSpace(cacheDir, needed, (options.freeBytesOf ?? freeBytes)(cacheDir))
      }
      await provideFolded({
        folder,
        places,
        about: { checkpoint: options.dir, madeFrom },
        async write(path) {
          const file = { path, size: places.size, bytes }
          await convertWeights(options, file, folds, progressOf('folding adapters'))
          requireUnchanged(sources)
        },
        onProgress: progressOf('checking converted weights'),
        onFlush,
        onNotice,
      })
    }
    const all = merged?.places.placements ?? placements
    const { verdictSites: sites = null } = options
    const graphs = {
      model: encodeModel(merged?.graph ?? graph, all),
      probe: encodeProbe(options, all),
      verdict: sites && encodeModel(layOut({ ...options, sites, probe: null }).graph, all),
    }
    const graphPath = writeGraphs(folder, graphs, onNotice)
    const weights = { folder, placements: all }
    const verdicts = sites && { graphPath: verdictPath(graphPath), sites, weights }
    return { graphPath, verdicts, baseDigest: digest }
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

type Layout = Pick<
  ConvertOptions,
  'checkpoint' | 'maxContext' | 'format' | 'target' | 'sites' | 'probe' | 'folds'
>

function layOut(layout: Layout) {
  const { checkpoint, maxContext, format, target = cpuTarget, sites, probe = null } = layout
  const { config } = checkpoint
  const tensors = foldedTensors(checkpoint.tensors, layout.folds ?? new Map())
  if (config.headDim % headMultiple !== 0) {
    throw new ServerError(
      'unsupported_checkpoint',
      `config.json: head_dim is ${config.headDim}; only multiples of ${headMultiple} are supported.`,
    )
  }
  const graph = buildDecoder({ config, tensors, maxContext, format, target, sites, probe })
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
  { checkpoint, maxContext, format, target = cpuTarget, sites, folds = new Map() }: ConvertOptions,
  placements: readonly WeightPlacement[],
): Uint8Array {
  const config = probeConfig(checkpoint.config)
  const tensors = foldedTensors(checkpoint.tensors, folds)
  const parts = { config, tensors, maxContext, format, target, sites }
  const graph = buildDecoder({ ...parts, probe: null })
  const used = new Set(placeWeights(graph).placements.map(({ tensor }) => tensor.name))
  return encodeModel(
    graph,
    placements.filter(({ tensor }) => used.has(tensor.name)),
  )
}

/** The graph over the folded weights, where they lie, and what each takes of their own file. */
function placeMerged(options: ConvertOptions, folds: Folds, base: readonly WeightPlacement[]) {
  const { graph } = layOut(options)
  const places = placeFolded(graph, folds, base)
  return { graph, places, bytes: bytesPerWeight(graph.weights, places.folded) }
}

function convertWeights(
  { dir, checkpoint, maxContext, format, target = cpuTarget }: ConvertOptions,
  file: WeightsFile,
  folds: Folds | null,
  onProgress: (done: number, total: number) => void,
): Promise<void> {
  const part = { dir, maxContext, format, target, folds }
  return writeWeights(file, part, checkpoint.numParameters, onProgress)
}

function describe(options: ConvertOptions, sources: readonly HashedFile[]) {
  const { checkpoint, maxContext, format, target = cpuTarget } = options
  // Whatever the cache: it shares the weights. Kernels read their rows in orders of their own.
  const { operators, floats, kernels } = target
  return {
    graphVersion,
    files: sources.map(({ path, sha256 }) => ({ name: basename(path), sha256 })),
    config: checkpoint.config,
    maxContext,
    format,
    target: { operators, floats, kernels },
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
