// The adapters folder as it is listed: names, small JSON files and what the store knows. Tensors are
// never read for it, and a folder whose files are as they were is not read again.

import { setImmediate as nextTurn } from 'node:timers/promises'
import {
  type AdapterKind,
  type AdapterQuery,
  type AdapterSummary,
  adapterNamePattern,
} from '../contracts/adapter.ts'
import type { ModelConfig } from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'
import { readAdaptedPaths } from './adapted-paths.ts'
import { type AdapterConfig, parseAdapterConfig } from './adapter-config.ts'
import {
  type AdapterFolder,
  findAdapterFolder,
  isThere,
  readConfigText,
  readFingerprint,
} from './adapter-folder.ts'
import { compareTargets } from './adapter-gaps.ts'
import { createFolderIndex, type FolderEntry, indexAfter, type OnSlice } from './folder-index.ts'
import { type Manifest, otherBase, readManifest } from './manifest.ts'
import {
  type KnownOfAdapter,
  nameAdapter,
  type OtherBaseFolder,
  summarizeAdapter,
  summarizeInvalid,
  summarizeOtherBase,
} from './summary.ts'

/** The small files of a folder, under the state of the folder in which they were read. */
interface Description {
  readonly fingerprint: string
  readonly content:
    | {
        readonly kind: 'read'
        readonly config: AdapterConfig
        readonly manifest: Manifest
        readonly gaps: readonly string[]
        readonly notes: readonly string[]
      }
    | ({ readonly kind: 'other_base' } & OtherBaseFolder)
    | { readonly kind: 'invalid'; readonly error: unknown }
}

/** A thousand folders take tens of milliseconds; other work gets its turn after so many. */
const sliceMs = 4

export function createListing({
  root,
  reserved,
  baseDigest,
  modelConfig,
  known,
}: {
  readonly root: string
  /** Names that mean something else in a request. */
  readonly reserved: ReadonlySet<string>
  /** Of the base that is served; null: adapters of any base are taken. */
  readonly baseDigest: string | null
  readonly modelConfig: ModelConfig
  readonly known: (id: string) => KnownOfAdapter
}) {
  const descriptions = new Map<string, Description>()
  const index = createFolderIndex(root)

  function describe(folder: AdapterFolder): Description {
    const fingerprint = readFingerprint(folder)
    const former = descriptions.get(folder.id)
    if (former?.fingerprint === fingerprint) return former
    const description = readDescription(folder, fingerprint, { modelConfig, baseDigest })
    descriptions.set(folder.id, description)
    return description
  }

  /** Folders that are gone are forgotten. */
  function forgetOthers(entries: readonly FolderEntry[]): void {
    const names = new Set(entries.map(({ id }) => id))
    for (const id of descriptions.keys()) if (!names.has(id)) descriptions.delete(id)
  }

  /** null: there is no such folder. */
  function look({ id, find }: FolderEntry): AdapterSummary | null {
    try {
      if (find === null) throw misnamed()
      const folder = find()
      if (folder === null) return null
      if (reserved.has(id)) throw misnamed()
      const summary = summarize(folder, describe(folder))
      // Taken away since its name was read: nothing is wrong with it.
      return summary.state === 'invalid' && !isThere(folder) ? null : summary
    } catch (error) {
      return summarizeInvalid(id, nameAdapter(id, error))
    }
  }

  async function* summaries(entries: readonly FolderEntry[]): AsyncGenerator<AdapterSummary> {
    let sliceEnd = performance.now() + sliceMs
    for (const entry of entries) {
      if (performance.now() > sliceEnd) {
        await nextTurn()
        sliceEnd = performance.now() + sliceMs
      }
      const summary = look(entry)
      if (summary !== null) yield summary
    }
  }

  function summarize(folder: AdapterFolder, description: Description): AdapterSummary {
    const { content, fingerprint } = description
    if (content.kind === 'invalid') return summarizeInvalid(folder.id, content.error)
    if (content.kind === 'other_base') return summarizeOtherBase(folder.id, content)
    return summarizeAdapter(folder.id, { ...content, fingerprint, known: known(folder.id) })
  }

  return {
    /** Adapter folders by name: those of the names, or the first so many after a name. */
    async read(
      { ids, after, limit, isBrief }: AdapterQuery,
      onSlice?: OnSlice,
    ): Promise<readonly AdapterSummary[]> {
      const entries = ids === undefined ? await index.read(forgetOthers, onSlice) : ids.map(entryOf)
      const found: AdapterSummary[] = []
      if (limit === 0) return found
      for await (const summary of summaries(entries.slice(indexAfter(entries, after)))) {
        found.push(isBrief ? { ...summary, manifest: null } : summary)
        if (found.length === limit) break
      }
      return found
    },
  }

  function entryOf(id: string): FolderEntry {
    return { id, find: () => (adapterNamePattern.test(id) ? findAdapterFolder(root, id) : null) }
  }
}

const nothingToReport = { gaps: [], notes: [] }

function misnamed(): ServerError {
  return new ServerError(
    'invalid_adapter',
    'its name cannot be used in a request, or means something else there; rename its folder.',
  )
}

function readDescription(
  folder: AdapterFolder,
  fingerprint: string,
  { modelConfig, baseDigest }: { modelConfig: ModelConfig; baseDigest: string | null },
): Description {
  try {
    const manifest = readManifest(folder)
    const refusal = otherBase(manifest, baseDigest)
    if (refusal !== null) {
      const content = {
        kind: 'other_base',
        manifest,
        config: findConfig(folder, manifest.kind),
        refusal,
      } as const
      return { fingerprint, content }
    }
    const config = parseAdapterConfig(readConfigText(folder), manifest.kind)
    const paths = readAdaptedPaths(folder)
    const report = paths ? compareTargets(config.targets, paths, modelConfig) : nothingToReport
    return { fingerprint, content: { kind: 'read', config, manifest, ...report } }
  } catch (error) {
    if (!(error instanceof ServerError)) throw error
    return { fingerprint, content: { kind: 'invalid', error: nameAdapter(folder.id, error) } }
  }
}

/** null: this server cannot read it, which is no fault of an adapter for another one. */
function findConfig(folder: AdapterFolder, kind: AdapterKind): AdapterConfig | null {
  try {
    return parseAdapterConfig(readConfigText(folder), kind)
  } catch (error) {
    if (!(error instanceof ServerError)) throw error
    return null
  }
}
