// Adapters as they are on disk now. A folder that changes is another version; one that changes
// while it is read is read again, so that no version is a mixture.

import { setTimeout as sleep } from 'node:timers/promises'
import { type AdapterRef, type RankOne, rankOneBytes } from '../contracts/adapter.ts'
import type { LinearModule, ModelConfig } from '../contracts/checkpoint.ts'
import { type ErrorBody, ServerError } from '../errors.ts'
import { type AdapterFolder, readFingerprint } from './adapter-folder.ts'
import { otherBase, readManifest } from './manifest.ts'
import { type LoadedAdapter, type ReadAdapter, UnservedModules } from './peft.ts'
import { nameAdapter, noStrength, warningsOf } from './summary.ts'

/** An adapter that was read whole. */
export interface AdapterVersion {
  readonly about: Omit<LoadedAdapter, 'components'>
  /** One per rank. */
  readonly components: readonly RankOne[]
  readonly bytes: number
  /** The state of the folder in which it was read. */
  readonly fingerprint: string
  /** Later reads have higher numbers. */
  readonly order: number
}

/** Why a folder cannot be served while it stays in that state. */
interface AdapterFailure {
  readonly fingerprint: string
  readonly error: ErrorBody
}

export interface VersionsOptions {
  readonly read: ReadAdapter
  readonly modelConfig: ModelConfig
  readonly maxRank: number
  /** The modules that the engine's graph has a site for. */
  readonly sites: ReadonlySet<LinearModule>
  /** Of the base that is served; null: adapters of any base are taken. */
  readonly baseDigest: string | null
  /** The operator's own adapters: none of them runs with a gap. */
  readonly operators: readonly AdapterRef[]
  /** Told what is wrong with an adapter that is served all the same. */
  readonly onNotice: (message: string) => void
}

export interface Versions {
  /** Concurrent callers share one read. Rejects with ServerError; a rejection is not kept. */
  read(folder: AdapterFolder): Promise<AdapterVersion>
  failureOf(id: string): AdapterFailure | undefined
  /** The folder is gone, and with it what was wrong with it. */
  forget(id: string): void
}

const maxReadAttempts = 3
const retryDelayMs = 50

export function createVersions(options: VersionsOptions): Versions {
  const reading = new Map<string, Promise<AdapterVersion>>()
  const failures = new Map<string, AdapterFailure>()
  let numReads = 0

  async function readVersion(folder: AdapterFolder): Promise<AdapterVersion> {
    let fingerprint = readFingerprint(folder)
    for (let attempt = 1; ; attempt++) {
      const order = ++numReads
      const result = await readOnce(folder, options)
      const after = readFingerprint(folder)
      if (after === fingerprint) return settle(folder.id, result, { fingerprint, order })
      // Somebody writes the folder: what was read may be half of it.
      if (attempt === maxReadAttempts) {
        throw nameAdapter(
          folder.id,
          new ServerError('invalid_adapter', 'its files are being written; try again.'),
        )
      }
      fingerprint = after
      await sleep(retryDelayMs)
    }
  }

  /** What was read, or an error, is that of the folder in this state. */
  function settle(
    id: string,
    { adapter, error }: ReadResult,
    { fingerprint, order }: Pick<AdapterVersion, 'fingerprint' | 'order'>,
  ): AdapterVersion {
    if (adapter === null) throw refusalOf(id, fingerprint, error)
    failures.delete(id)
    for (const warning of warningsOf(adapter)) options.onNotice(`Adapter "${id}": ${warning}`)
    const { components, ...about } = adapter
    const bytes = components.reduce((sum, component) => sum + rankOneBytes(component), 0)
    return { about, components, bytes, fingerprint, order }
  }

  function refusalOf(id: string, fingerprint: string, error: unknown): unknown {
    // Nothing is wrong with the folder: another engine would serve it.
    if (error instanceof UnservedModules) return needOtherEngine(id, error, fingerprint)
    const named = nameAdapter(id, error)
    if (named instanceof ServerError) failures.set(id, { fingerprint, error: named.toBody() })
    return named
  }

  return {
    read(folder) {
      const shared = reading.get(folder.id)
      if (shared !== undefined) return shared
      const version = readVersion(folder).finally(() => reading.delete(folder.id))
      reading.set(folder.id, version)
      return version
    },
    failureOf: (id) => failures.get(id),
    forget: (id) => void failures.delete(id),
  }
}

type ReadResult =
  | { readonly adapter: LoadedAdapter; readonly error: null }
  | { readonly adapter: null; readonly error: unknown }

async function readOnce(
  folder: AdapterFolder,
  { read, modelConfig, maxRank, sites, baseDigest, operators }: VersionsOptions,
): Promise<ReadResult> {
  try {
    // Before its tensors: those of another base need not fit this one.
    const error = otherBase(readManifest(folder), baseDigest)
    if (error !== null) return { adapter: null, error }
    const adapter = await read(folder, { model: modelConfig, maxRank, served: sites })
    const refusal = refuseGaps(adapter, operators)
    return refusal === null ? { adapter, error: null } : { adapter: null, error: refusal }
  } catch (error) {
    return { adapter: null, error }
  }
}

/** The operator's adapter does what its name promises, or nobody runs with it. */
function refuseGaps(
  { id, gaps, manifest }: LoadedAdapter,
  operators: readonly AdapterRef[],
): ServerError | null {
  const own = operators.filter((ref) => ref.id === id)
  if (own.length === 0) return null
  const hasNoStrength = manifest.defaultScale === 0 && own.some(({ scale }) => scale === null)
  const why = hasNoStrength ? [...gaps, noStrength] : gaps
  if (why.length === 0) return null
  return new ServerError(
    'invalid_adapter',
    `${why.join(' ')} The operator's flags name this adapter, so it must be whole: replace it.`,
  )
}

/** Sites in the graph are fixed when the engine starts; another engine may have more. */
function needOtherEngine(
  adapterId: string,
  { modules, served, message }: UnservedModules,
  version: string,
): ServerError {
  return new ServerError(
    'unsupported_adapter',
    `Adapter "${adapterId}": ${message}; this engine was started for ${served.join(', ')}. Restart ` +
      'the server with the adapter in its folder.',
    { param: 'adapter', needs: { adapterId, modules, version } },
  )
}
