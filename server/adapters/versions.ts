// Adapters as they are on disk now. A folder that changes is another version; one that changes
// while it is read is read again, so that no version is a mixture.

import { setTimeout as sleep } from 'node:timers/promises'
import { type AdapterRef, type RankOne, rankOneBytes } from '../contracts/adapter.ts'
import { type LinearModule, linearModules, type ModelConfig } from '../contracts/checkpoint.ts'
import { type ErrorBody, ServerError } from '../errors.ts'
import { type AdapterFolder, isThere, quietMs, readFingerprint } from './adapter-folder.ts'
import { otherBase, readManifest } from './manifest.ts'
import { type LoadedAdapter, type ReadAdapter, UnservedModules } from './peft.ts'
import { nameAdapter, noAdapter, noStrength, warningsOf } from './summary.ts'

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

/** What stays known of a version that has left the memory. */
export type KnownVersion = Pick<AdapterVersion, 'about' | 'bytes' | 'fingerprint'>

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
  /** A folder is finished when nothing in it has changed for so long. */
  readonly settleMs: number
}

export interface Versions {
  /** Concurrent callers share one read. Rejects with ServerError; a rejection is not kept. */
  read(folder: AdapterFolder): Promise<AdapterVersion>
  /**
   * Reads all of a folder, whatever modules it changes, under a name that it need not have yet. One of
   * ours is finished. Rejects with ServerError; nothing is kept of it.
   */
  check(folder: AdapterFolder, isOurs: boolean): Promise<AdapterVersion>
  /** What was checked is now in the folder of its name, and newer than all that was read. */
  adopt(version: AdapterVersion, folder: AdapterFolder): AdapterVersion
  /** Nothing in it changes just now. */
  isFinished(folder: AdapterFolder): boolean
  /** The last one that was read whole. */
  lastOf(id: string): KnownVersion | undefined
  failureOf(id: string): AdapterFailure | undefined
  /** The folder is gone, and with it what was wrong with it. */
  forget(id: string): void
}

const maxReadAttempts = 3
const retryDelayMs = 50
/** Names of adapters that have left the memory and are remembered. */
const maxRemembered = 10_000

export function createVersions(options: VersionsOptions): Versions {
  const reading = new Map<string, Promise<AdapterVersion>>()
  const failures = new Map<string, AdapterFailure>()
  const known = new Map<string, KnownVersion>()
  let numReads = 0

  /** Reads it when it is finished and stays so. */
  async function readStable(
    folder: AdapterFolder,
    sites: ReadonlySet<LinearModule>,
    settleMs: number,
  ): Promise<StableRead> {
    let fingerprint = readFingerprint(folder)
    for (let attempt = 1; ; attempt++) {
      if (!isQuiet(folder, settleMs)) await sleep(settleMs - quietMs(folder))
      const order = ++numReads
      const before = readFingerprint(folder)
      const isStill = before === fingerprint
      const result = isStill ? await readOnce(folder, { ...options, sites }) : null
      fingerprint = readFingerprint(folder)
      // Taken away meanwhile: nothing is wrong with what it held.
      if (!isThere(folder)) throw noAdapter(folder.id)
      if (result !== null && fingerprint === before) return { result, fingerprint, order }
      // Somebody writes the folder: what was read may be half of it.
      if (attempt === maxReadAttempts) {
        throw nameAdapter(
          folder.id,
          new ServerError('invalid_adapter', 'its files are being written; try again.'),
        )
      }
      await sleep(retryDelayMs)
    }
  }

  function remember({ about, bytes, fingerprint }: AdapterVersion): void {
    known.delete(about.id)
    known.set(about.id, { about, bytes, fingerprint })
    if (known.size > maxRemembered) known.delete(known.keys().next().value!)
  }

  async function readVersion(folder: AdapterFolder): Promise<AdapterVersion> {
    const { result, ...read } = await readStable(folder, options.sites, options.settleMs)
    const version = settle(folder.id, result, read)
    remember(version)
    return version
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
    return toVersion(adapter, { fingerprint, order })
  }

  function refusalOf(id: string, fingerprint: string, error: unknown): unknown {
    // Nothing is wrong with the folder.
    if (error instanceof NamedGuard) return nameAdapter(id, error)
    // Another engine would serve it.
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
    async check(folder, isOurs) {
      const settleMs = isOurs ? 0 : options.settleMs
      const { result, ...read } = await readStable(folder, allModules, settleMs)
      if (result.adapter === null) throw nameAdapter(folder.id, result.error)
      return toVersion(result.adapter, read)
    },
    adopt(checked, folder) {
      const version = { ...checked, fingerprint: readFingerprint(folder), order: ++numReads }
      failures.delete(folder.id)
      remember(version)
      return version
    },
    isFinished: (folder) => isQuiet(folder, options.settleMs),
    lastOf: (id) => known.get(id),
    failureOf: (id) => failures.get(id),
    forget(id) {
      failures.delete(id)
      known.delete(id)
    },
  }
}

const allModules: ReadonlySet<LinearModule> = new Set(linearModules)

/** A clock that is ahead says nothing. */
function isQuiet(folder: AdapterFolder, settleMs: number): boolean {
  const ms = quietMs(folder)
  return ms < 0 || ms >= settleMs
}

interface StableRead extends Pick<AdapterVersion, 'fingerprint' | 'order'> {
  readonly result: ReadResult
}

function toVersion(
  { components, ...about }: LoadedAdapter,
  read: Pick<AdapterVersion, 'fingerprint' | 'order'>,
): AdapterVersion {
  const bytes = components.reduce((sum, component) => sum + rankOneBytes(component), 0)
  return { about, components, bytes, ...read }
}

/** A guard that a request names as its adapter. */
class NamedGuard extends ServerError {
  constructor() {
    super(
      'unsupported_adapter',
      'it is a guard, which judges what others say: it is applied to no reply. Name an adapter.',
    )
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
    const manifest = readManifest(folder)
    const error = otherBase(manifest, baseDigest)
    if (error !== null) return { adapter: null, error }
    if (manifest.kind === 'guard') return { adapter: null, error: new NamedGuard() }
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
