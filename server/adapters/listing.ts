// The adapters folder as it is listed: names, small JSON files and what the store knows. Tensors are
// never read for it, and a folder whose files are as they were is not read again.

import { setImmediate as nextTurn } from 'node:timers/promises'
import type { AdapterSummary } from '../contracts/adapter.ts'
import type { ModelConfig } from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'
import { readAdaptedPaths } from './adapted-paths.ts'
import { type AdapterConfig, parseAdapterConfig } from './adapter-config.ts'
import {
  type AdapterFolder,
  listAdapterFolders,
  listUnusableNames,
  readConfigText,
  readFingerprint,
} from './adapter-folder.ts'
import { compareTargets } from './adapter-targets.ts'
import { type Manifest, readManifest } from './manifest.ts'
import { type KnownOfAdapter, nameAdapter, summarizeAdapter, summarizeInvalid } from './summary.ts'

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
  let descriptions = new Map<string, Description>()

  function describe(folder: AdapterFolder): Description {
    const fingerprint = readFingerprint(folder)
    const former = descriptions.get(folder.id)
    if (former?.fingerprint === fingerprint) return former
    return readDescription(folder, fingerprint, modelConfig)
  }

  function summarize(folder: AdapterFolder, description: Description): AdapterSummary {
    const { content, fingerprint } = description
    if (content.kind === 'invalid') return summarizeInvalid(folder.id, content.error)
    return summarizeAdapter(folder.id, {
      ...content,
      fingerprint,
      baseDigest,
      known: known(folder.id),
    })
  }

  return {
    /** Every adapter folder, by name. */
    async read(): Promise<readonly AdapterSummary[]> {
      const summaries: AdapterSummary[] = []
      const seen = new Map<string, Description>()
      let sliceEnd = performance.now() + sliceMs
      for (const { id, find } of listAdapterFolders(root)) {
        if (performance.now() > sliceEnd) {
          await nextTurn()
          sliceEnd = performance.now() + sliceMs
        }
        try {
          const folder = find()
          if (folder === null) continue
          if (reserved.has(id)) throw misnamed()
          const description = describe(folder)
          seen.set(id, description)
          summaries.push(summarize(folder, description))
        } catch (error) {
          summaries.push(summarizeInvalid(id, nameAdapter(id, error)))
        }
      }
      for (const id of listUnusableNames(root)) summaries.push(summarizeInvalid(id, misnamed()))
      summaries.sort((x, y) => (x.id < y.id ? -1 : 1))
      // Folders that are gone are forgotten with this.
      descriptions = seen
      return summaries
    },
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
  model: ModelConfig,
): Description {
  try {
    const config = parseAdapterConfig(readConfigText(folder))
    const manifest = readManifest(folder)
    const paths = readAdaptedPaths(folder)
    const report = paths ? compareTargets(config.targets, paths, model) : nothingToReport
    return { fingerprint, content: { kind: 'read', config, manifest, ...report } }
  } catch (error) {
    if (!(error instanceof ServerError)) throw error
    return { fingerprint, content: { kind: 'invalid', error: nameAdapter(folder.id, error) } }
  }
}
