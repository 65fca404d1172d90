// manifest.json of an adapter folder: provenance and results, written by our trainer or by nobody.
// An ill-formed field is dropped, with a warning, and the adapter serves without it: of all
// fields only the kind, the recommended strength and the base's digest have a say in what runs.

import type { AdapterKind } from '../contracts/adapter.ts'
import { manifestSchema } from '../contracts/manifest.ts'
import { ServerError } from '../errors.ts'
import { type AdapterFolder, manifestFile, readManifestText } from './adapter-folder.ts'

export interface Manifest {
  /** adapter where the file does not say. */
  readonly kind: AdapterKind
  readonly defaultScale: number
  readonly description: string | null
  /** Digest of the base that the adapter was trained on, where it is given. */
  readonly baseDigest: string | null
  /** Name of that base, where it is given. */
  readonly baseModel: string | null
  /** What is well-formed of the file; null when there is none. */
  readonly content: Readonly<Record<string, unknown>> | null
  /** What is wrong with it, for the operator. */
  readonly warnings: readonly string[]
}

const emptyManifest: Manifest = {
  kind: 'adapter',
  defaultScale: 1,
  description: null,
  baseDigest: null,
  baseModel: null,
  content: null,
  warnings: [],
}

const maxWarnings = 5
/** Deeper objects cannot be written out again. */
const maxDepth = 32

export function readManifest(folder: AdapterFolder): Manifest {
  try {
    return parseManifest(readManifestText(folder))
  } catch (error) {
    if (!(error instanceof ServerError)) throw error
    return unusable(error.message)
  }
}

export function parseManifest(text: string | null): Manifest {
  if (text === null) return emptyManifest
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return unusable(`${manifestFile}: it is not JSON.`)
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    return unusable(`${manifestFile}: it is not a JSON object.`)
  }
  if (isDeeper(json, maxDepth)) {
    return unusable(`${manifestFile}: it is nested deeper than ${maxDepth} levels.`)
  }
  const { issues } = manifestSchema.safeParse(json).error ?? { issues: [] }
  const illFormed = new Set(issues.map(({ path }) => String(path[0])))
  const fields = Object.entries(json).filter(([name]) => !illFormed.has(name))
  const content: Record<string, unknown> = Object.fromEntries(fields)
  const { kind, recommended_strength, description, base_digest, base_model } =
    manifestSchema.parse(content)
  return {
    kind: kind ?? 'adapter',
    defaultScale: recommended_strength ?? 1,
    description: description ?? null,
    baseDigest: base_digest ?? null,
    baseModel: base_model ?? null,
    content,
    warnings: issues
      .slice(0, maxWarnings)
      .map(({ path, message }) => `${manifestFile}: ${nameOf(path)}: ${message}; it is ignored.`),
  }
}

/** Why an adapter with this manifest must not run on the base of that digest; null: it may. */
export function otherBase(manifest: Manifest, baseDigest: string | null): ServerError | null {
  const trainedOn = manifest.baseDigest
  if (baseDigest === null || trainedOn === null || trainedOn === baseDigest) return null
  return new ServerError(
    'adapter_other_base',
    `it is for another base: ${nameBase(manifest)}base_digest ${trainedOn.slice(0, 12)}…; this ` +
      `server's is ${baseDigest.slice(0, 12)}…. Serve that base, train it on this one, or start ` +
      'with --adapter-base any.',
  )
}

function nameBase({ baseModel }: Manifest): string {
  return baseModel === null ? '' : `${JSON.stringify(baseModel.slice(0, 80))}, `
}

function unusable(warning: string): Manifest {
  return { ...emptyManifest, warnings: [warning] }
}

function nameOf(path: readonly PropertyKey[]): string {
  return path.map(String).join('.').slice(0, 80)
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  return levels === 0 || Object.values(value).some((item) => isDeeper(item, levels - 1))
}
