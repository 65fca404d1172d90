// Reads a PEFT LoRA folder whole and checks all of it: config, names, shapes, finiteness. What it
// returns needs no further question.

import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { safetensorsFromBuffer } from '../checkpoint/safetensors.ts'
import { parseHeader, readHeaderLength } from '../checkpoint/safetensors-header.ts'
import type { AdapterKind, RankOne } from '../contracts/adapter.ts'
import { inLayerOrder, type LinearModule, type ModelConfig } from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'
import { type AdapterConfig, parseAdapterConfig } from './adapter-config.ts'
import {
  type AdapterFolder,
  openTensors,
  readConfigText,
  readFully,
  tensorsFile,
} from './adapter-folder.ts'
import { compareTargets, findEffectGap } from './adapter-gaps.ts'
import {
  type AdapterMatrices,
  type AdapterPlan,
  componentsOf,
  planTensors,
  readMatrices,
} from './adapter-tensors.ts'
import { type Manifest, readManifest } from './manifest.ts'

export interface LoadedAdapter {
  readonly id: string
  /** SHA-256 over the canonical config and the tensor file, 64 hex digits. */
  readonly digest: string
  readonly rank: number
  readonly targetModules: readonly string[]
  /** Number of layers that are adapted. */
  readonly numLayers: number
  readonly manifest: Manifest
  /** What the config names and the file lacks, or that it changes nothing: sentences. */
  readonly gaps: readonly string[]
  /** What else an operator should know of its tensors. */
  readonly notes: readonly string[]
  /** `rank` of them. */
  readonly components: readonly RankOne[]
}

export interface ReadAdapterOptions {
  /** adapter unless said. */
  readonly kind?: AdapterKind
  readonly model: ModelConfig
  readonly maxRank: number
  /** The modules that the engine has a site for. */
  readonly served: ReadonlySet<LinearModule>
}

export type ReadAdapter = (
  folder: AdapterFolder,
  options: ReadAdapterOptions,
) => Promise<LoadedAdapter>

/** The adapter changes modules that this engine has no site for; nothing else is wrong with it. */
export class UnservedModules extends Error {
  override readonly name = 'UnservedModules'
  readonly modules: readonly LinearModule[]
  readonly served: readonly LinearModule[]

  constructor({ modules, served }: Pick<UnservedModules, 'modules' | 'served'>) {
    super(`The adapter changes ${modules.join(', ')}`)
    this.modules = modules
    this.served = served
  }
}

/** An adapter as it goes from thread to thread: few large pieces. */
export interface ReadFolder {
  readonly about: Omit<LoadedAdapter, 'components'>
  readonly matrices: AdapterMatrices[]
  /** Of a guard. */
  readonly invocationTokens: readonly number[] | null
}

export function toLoaded({ about, matrices }: ReadFolder): LoadedAdapter {
  return { ...about, components: componentsOf(matrices) }
}

/** In the caller's thread. */
export async function readPeftAdapter(
  folder: AdapterFolder,
  options: ReadAdapterOptions,
): Promise<LoadedAdapter> {
  return toLoaded(await readPeftFolder(folder, options))
}

export async function readPeftFolder(
  folder: AdapterFolder,
  { kind = 'adapter', model, maxRank, served }: ReadAdapterOptions,
): Promise<ReadFolder> {
  const config = parseAdapterConfig(readConfigText(folder), kind)
  if (config.maxRank > maxRank) refuseRank(folder.id, config.maxRank, maxRank)
  const handle = await openTensors(folder)
  try {
    const { size } = await handle.stat()
    // Names and shapes first: they bound how much is read after them.
    const plan = await readPlan(handle, size, config, model)
    const modules = new Set(plan.modules.map(({ module }) => module))
    requireServed(modules, served)
    const bytes = Buffer.alloc(size)
    if ((await readFully(handle, bytes, 0)) !== size) {
      fail('the file became shorter while it was read')
    }
    const file = safetensorsFromBuffer(bytes, { code: 'invalid_adapter', label: tensorsFile })
    const matrices = readMatrices(plan, file, config)
    const { gaps, notes } = compareTargets(config.targets, pathsOf(plan), model)
    const effect = findEffectGap(matrices)
    const about = {
      id: folder.id,
      digest: createHash('sha256').update(config.canonicalJson).update(bytes).digest('hex'),
      rank: plan.rank,
      targetModules: inLayerOrder([...modules]),
      numLayers: new Set(plan.modules.map(({ layer }) => layer)).size,
      manifest: readManifest(folder),
      gaps: effect?.isWhole ? [...gaps, effect.text] : gaps,
      notes: effect?.isWhole === false ? [...notes, effect.text] : notes,
    }
    return { about, matrices, invocationTokens: config.invocationTokens }
  } finally {
    await handle.close()
  }
}

async function readPlan(
  handle: FileHandle,
  size: number,
  config: AdapterConfig,
  model: ModelConfig,
): Promise<AdapterPlan> {
  const prefix = Buffer.alloc(Math.min(8, size))
  await readFully(handle, prefix, 0)
  const json = Buffer.alloc(readHeaderLength(prefix, size, fail))
  await readFully(handle, json, 8)
  return planTensors(parseHeader(json, size, fail).tensors, config, model)
}

function pathsOf({ modules }: AdapterPlan): ReadonlySet<string> {
  return new Set(modules.map(({ path }) => path))
}

function requireServed(
  modules: ReadonlySet<LinearModule>,
  served: ReadonlySet<LinearModule>,
): void {
  const missing = [...modules].filter((module) => !served.has(module))
  if (missing.length > 0)
    throw new UnservedModules({ modules: missing.sort(), served: [...served] })
}

export function refuseRank(what: string, rank: number, maxRank: number): never {
  throw new ServerError(
    'adapter_rank_exceeded',
    `${what} needs rank ${rank}; a request may use a total rank of at most ${maxRank} (--max-adapter-rank).`,
  )
}

function fail(message: string): never {
  throw new ServerError('invalid_adapter', `${tensorsFile}: ${message}.`)
}
