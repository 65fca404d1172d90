// The adapters folder as it is listed: names, small JSON files and what the store knows. Tensors are
// never read for it, and a folder whose files are as they were is not read again.

import { setImmediate as nextTurn } from 'node:timers/promises'
import type { AdapterSummary } from '../contracts/adapter.ts'
import { ServerError } from '../errors.ts'
import { type AdapterConfig, parseAdapterConfig } from './adapter-config.ts'
import {
  type AdapterFolder,
  listAdapterFolders,
  readConfigText,
  readFingerprint,
} from './adapter-folder.ts'
import { type Manifest, readManifest } from './manifest.ts'
import { type KnownOfAdapter, nameAdapter, summarizeAdapter, summarizeInvalid } from './summary.ts'

/** The small files of a folder, under the state of the folder in which they were read. */
interface Description {
  readonly fingerprint: string
  readonly content:
    | { readonly kind: 'read'; readonly config: AdapterConfig; readonly manifest: Manifest }
    | { readonly kind: 'invalid'; readonly error: unknown }
}

/** A thousand folders take tens of milliseconds; other work gets its turn after so many. */
const sliceMs = 4

export function createListing({
  root,
  reserved,
  baseDigest,
  known,
}: {
  readonly root: string
  /** Names that mean something else in a request. */
  readonly reserved: ReadonlySet<string>
  /** Of the base that is served; null: adapters of any base are taken. */
  readonly baseDigest: string | null
  readonly known: (id: string) => KnownOfAdapter
}) {
  let descriptions = new Map<string, Description>()

  function describe(folder: AdapterFolder): Description {
    const fingerprint = readFingerprint(folder)
    const former = descriptions.get(folder.id)
    return former?.fingerprint === fingerprint ? former : readDescription(folder, fingerprint)
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
          if (reserved.has(id)) refuseName()
          const description = describe(folder)
          seen.set(id, description)
          summaries.push(summarize(folder, description))
        } catch (error) {
          summaries.push(summarizeInvalid(id, nameAdapter(id, error)))
        }
      }
      // Folders that are gone are forgotten with this.
      descriptions = seen
      return summaries
    },
  }
}

function refuseName(): never {
  throw new ServerError(
    'invalid_adapter',
    'its name means something else in a request; rename its folder.',
  )
}

function readDescription(folder: AdapterFolder, fingerprint: string): Description {
  try {
    const config = parseAdapterConfig(readConfigText(folder))
    const manifest = readManifest(folder)
    return { fingerprint, content: { kind: 'read', config, manifest } }
  } catch (error) {
    if (!(error instanceof ServerError)) throw error
    return { fingerprint, content: { kind: 'invalid', error: nameAdapter(folder.id, error) } }
  }
}
