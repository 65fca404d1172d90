// Adapters on their way into the weights. A copy in the cache folder, named by its digest, is what an
// engine folds: the folder may change meanwhile, and an engine that is started again folds the same.

import { randomUUID } from 'node:crypto'
import { mkdirSync, realpathSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type AdapterFolder, findAdapterFolder } from '../adapters/adapter-folder.ts'
import { otherBase } from '../adapters/manifest.ts'
import { readPeftAdapter } from '../adapters/peft.ts'
import type { AdapterStore } from '../adapters/store.ts'
import { noAdapter } from '../adapters/summary.ts'
import type { AdapterVersion } from '../adapters/versions.ts'
import {
  adapterNamePattern,
  type HeldAdapter,
  type MergedAdapter,
  type MergeTarget,
  type PreparedMerge,
  rankOneBytes,
} from '../contracts/adapter.ts'
import {
  inLayerOrder,
  type LinearModule,
  linearModules,
  type ModelConfig,
} from '../contracts/checkpoint.ts'
import { storageError } from '../durable.ts'
import { ServerError } from '../errors.ts'
import { copyAdapter } from './adapter-copy.ts'

function copiesOf(cacheDir: string): string {
  const path = join(cacheDir, 'merged')
  mkdirSync(path, { recursive: true })
  return realpathSync.native(path)
}

/** Checks an adapter as it is now and keeps a copy of it. Rejects with ServerError. */
export async function prepareMerge(
  { id, scale }: MergeTarget,
  { root, cacheDir, store }: { root: string; cacheDir: string; store: Pick<AdapterStore, 'check'> },
): Promise<PreparedMerge> {
  const folder = adapterNamePattern.test(id) ? findAdapterFolder(root, id) : null
  if (folder === null) throw noAdapter(id, 'id')
  try {
    const copies = copiesOf(cacheDir)
    const staged: AdapterFolder = { id, path: join(copies, randomUUID()), root: copies }
    try {
      await store.check(folder, false)
      await copyAdapter(folder, staged.path)
      const { about } = await store.check(staged, true)
      const { digest, targetModules, manifest } = about
      const strength = scale ?? manifest.defaultScale
      if (strength === 0) throw noStrength(id)
      await publish(staged.path, join(copies, digest))
      const modules = inLayerOrder(targetModules)
      return { merged: { id, digest, scale: strength }, modules }
    } finally {
      await rm(staged.path, { recursive: true, force: true })
    }
  } catch (error) {
    throw storageError(error)
  }
}

/** The newer copy takes the place of the older: that one may be damaged. */
async function publish(from: string, to: string): Promise<void> {
  await rm(to, { recursive: true, force: true })
  await rename(from, to)
}

/** An adapter of the weights, as requests meet it. */
export interface WeightsAdapter {
  readonly version: AdapterVersion
  readonly held: HeldAdapter
  readonly modules: readonly LinearModule[]
}

/** Rejects with ServerError where a copy is not what it was. */
export async function readMerged(
  merged: readonly MergedAdapter[],
  {
    cacheDir,
    model,
    maxRank,
    baseDigest,
  }: {
    readonly cacheDir: string
    readonly model: ModelConfig
    readonly maxRank: number
    /** Of the base, without adapters; null: adapters of any base are taken. */
    readonly baseDigest: string | null
  },
): Promise<readonly WeightsAdapter[]> {
  if (merged.length === 0) return []
  const root = copiesOf(cacheDir)
  const served = new Set(linearModules)
  const all: WeightsAdapter[] = []
  for (const { id, digest, scale } of merged) {
    const folder = { id, path: join(root, digest), root }
    const { components, ...about } = await readPeftAdapter(folder, { model, maxRank, served })
    if (about.digest !== digest) throw damaged(id, digest)
    const otherOne = otherBase(about.manifest, baseDigest)
    if (otherOne !== null) throw otherOne
    const bytes = components.reduce((sum, component) => sum + rankOneBytes(component), 0)
    const { defaultScale } = about.manifest
    all.push({
      version: { about, components, bytes, fingerprint: folder.path, order: 0 },
      held: { applied: { id, digest, scale }, components, defaultScale },
      modules: inLayerOrder(about.targetModules),
    })
  }
  return all
}

function noStrength(id: string): ServerError {
  return new ServerError(
    'invalid_value',
    `Adapter "${id}" has the default strength 0, which merges nothing: send a scale above 0.`,
    { param: 'scale' },
  )
}

function damaged(id: string, digest: string): ServerError {
  return new ServerError(
    'invalid_adapter',
    `The copy of "${id}" in the cache folder is not ${digest.slice(0, 12)} any more: merge it again.`,
  )
}
