// An adapter folder in one entry of the list: from its small JSON files and what the store knows.

import type { AdapterSummary } from '../contracts/adapter.ts'
import { type ErrorBody, type ErrorCode, ServerError } from '../errors.ts'
import type { AdapterConfig } from './adapter-config.ts'
import type { Manifest } from './manifest.ts'
import type { LoadedAdapter } from './peft.ts'

interface Read {
  readonly fingerprint: string
  readonly about: Omit<LoadedAdapter, 'components'>
  /** Of its vectors; a guard's are not counted here. */
  readonly bytes?: number
}

/** What the store knows, each with the state of the folder in which it was true. */
export interface KnownOfAdapter {
  readonly resident: Read | undefined
  /** Was read, and has left the memory. */
  readonly former: Read | undefined
  readonly runningRequests: number
  readonly isPinned: boolean
  readonly failure: { readonly fingerprint: string; readonly error: ErrorBody } | undefined
}

export const noStrength =
  'manifest.json: recommended_strength is 0, so it changes nothing by default.'

/** What an operator should know of an adapter that is served all the same. */
export function warningsOf({
  manifest,
  gaps,
  notes,
}: Pick<LoadedAdapter, 'manifest' | 'gaps' | 'notes'>): readonly string[] {
  const strength = manifest.defaultScale === 0 ? [noStrength] : []
  return [...manifest.warnings, ...strength, ...gaps, ...notes]
}

export interface ReadFolder {
  readonly config: AdapterConfig
  readonly manifest: Manifest
  /** As far as the names of the tensors tell. */
  readonly gaps: readonly string[]
  readonly notes: readonly string[]
  readonly fingerprint: string
  readonly known: KnownOfAdapter
}

/** What can be told of an adapter whose manifest names another base. */
export interface OtherBaseFolder {
  readonly manifest: Manifest
  /** null: this server cannot read it. */
  readonly config: AdapterConfig | null
  readonly refusal: ServerError
}

export function summarizeAdapter(
  id: string,
  { config, manifest, gaps, notes, fingerprint, known }: ReadFolder,
): AdapterSummary {
  const { resident, former, failure } = known
  const isResident = resident?.fingerprint === fingerprint
  const read = [resident, former].find((version) => version?.fingerprint === fingerprint)
  const about = read?.about
  const error = failure?.fingerprint === fingerprint ? failure.error : null
  return {
    id,
    kind: manifest.kind,
    state: error ? 'invalid' : isResident ? 'resident' : 'available',
    digest: about?.digest ?? null,
    rank: about?.rank ?? config.maxRank,
    targetModules: about?.targetModules ?? config.targetModules,
    ...useOf(known, read?.bytes),
    numLayers: about?.numLayers ?? null,
    ...shownOf(manifest),
    warnings: warningsOf(about ?? { manifest, gaps, notes }),
    error: error && { code: error.code, message: error.message },
  }
}

/** Its tensors are not looked at: they fit another base. */
export function summarizeOtherBase(
  id: string,
  { manifest, config, refusal }: OtherBaseFolder,
): AdapterSummary {
  const { code, message } = nameAdapter(id, refusal)
  return {
    id,
    kind: manifest.kind,
    state: 'other_base',
    digest: null,
    rank: config?.maxRank ?? null,
    targetModules: config?.targetModules ?? null,
    ...notInUse,
    numLayers: null,
    ...shownOf(manifest),
    warnings: manifest.warnings,
    error: { code, message },
  }
}

type Use = Pick<AdapterSummary, 'bytes' | 'runningRequests' | 'pinned'>
const notInUse: Use = { bytes: null, runningRequests: 0, pinned: false }

function useOf({ runningRequests, isPinned }: KnownOfAdapter, bytes: number | undefined): Use {
  return { bytes: bytes ?? null, runningRequests, pinned: isPinned }
}

function shownOf(
  manifest: Manifest,
): Pick<AdapterSummary, 'defaultScale' | 'description' | 'base' | 'manifest'> {
  const { defaultScale, description, baseModel: model, baseDigest: digest, content } = manifest
  const base = model === null && digest === null ? null : { model, digest }
  return { defaultScale, description, base, manifest: content }
}

const codesOfFiles: ReadonlySet<ErrorCode> = new Set([
  'invalid_adapter',
  'unsupported_adapter',
  'adapter_other_base',
])

/** Errors from files say what is wrong; with this they also say in which adapter. */
export function nameAdapter<E>(id: string, error: E): E | ServerError {
  const isOfFile = error instanceof ServerError && codesOfFiles.has(error.code)
  if (!isOfFile) return error
  const message = `Adapter "${id}": ${error.message}`
  return new ServerError(error.code, message, { param: 'adapter', cause: error })
}

/** `param`: where the client named it. */
export function noAdapter(id: string, param: 'adapter' | 'id' = 'adapter'): ServerError {
  return new ServerError('model_not_found', `There is no adapter "${id.slice(0, 64)}".`, { param })
}

export function summarizeInvalid(id: string, error: unknown): AdapterSummary {
  if (!(error instanceof ServerError)) throw error
  return {
    id,
    kind: 'adapter',
    state: 'invalid',
    digest: null,
    rank: null,
    targetModules: null,
    ...notInUse,
    numLayers: null,
    defaultScale: 1,
    description: null,
    base: null,
    manifest: null,
    warnings: [],
    error: { code: error.code, message: error.message },
  }
}
