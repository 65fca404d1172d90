// Which guard judges. A guard that was chosen and cannot be used ends the start: judging is never off
// without anybody having said so.

import { type AdapterFolder, findAdapterFolder } from '../adapters/adapter-folder.ts'
import { type FolderEntry, maxScanMs, scanFolders } from '../adapters/folder-index.ts'
import { readManifest } from '../adapters/manifest.ts'
import type { ModelConfig } from '../contracts/checkpoint.ts'
import type { EngineOptions } from '../contracts/engine.ts'
import { ServerError } from '../errors.ts'
import { type GuardBase, type GuardOfFolder, readGuard } from './guard-folder.ts'

export interface GuardChoice {
  readonly options: Pick<EngineOptions, 'adapters' | 'guard' | 'guardExact' | 'merged'>
  /** What is in --adapters, by name. */
  readonly folders: readonly FolderEntry[]
  readonly model: ModelConfig
  readonly tokenizer: Pick<GuardBase, 'tokenText'> & { readonly specialTexts: readonly string[] }
  /** Of the base that is served; asked for only where there is a guard. */
  readonly baseDigest: () => Promise<string>
  readonly onProgress: () => void
  readonly onNotice: (message: string) => void
}

/** null: nobody judges. Rejects with ServerError. */
export async function chooseGuard(given: GuardChoice): Promise<GuardOfFolder | null> {
  const { options, model, tokenizer } = given
  const { guard: choice, adapters: root, merged, guardExact: isExact } = options
  if (choice === 'none') return null
  const folder = choice === 'auto' ? await onlyGuard(given) : namedGuard(root, choice.id)
  if (folder === null) return null
  const { tokenText } = tokenizer
  const added = new Set(tokenizer.specialTexts)
  const isAdded = (id: number) => added.has(tokenText(id))
  try {
    const digest = await given.baseDigest()
    return await readGuard(folder, { model, merged, digest, isAdded, tokenText, isExact })
  } catch (error) {
    if (!(error instanceof ServerError)) throw error
    return refuse(
      `The guard "${folder.id}" cannot be used: ${error.message} Repair its folder, name another ` +
        'with --guard, or start with --guard none.',
    )
  }
}

function namedGuard(root: string, id: string): AdapterFolder {
  const folder = findAdapterFolder(root, id)
  const name = JSON.stringify(id.slice(0, 64))
  if (folder === null) return refuse(`--guard ${name}: there is no such folder in --adapters.`)
  if (readManifest(folder).kind === 'guard') return folder
  return refuse(`--guard ${name} is no guard: its manifest.json does not say "kind": "guard".`)
}

/** The only one that is for this base, or for a base that it does not say. */
async function onlyGuard(options: GuardChoice): Promise<AdapterFolder | null> {
  const guards = await findGuards(options)
  if (guards.length === 0) return null
  const served = await options.baseDigest()
  const own = guards.filter(({ baseDigest }) => baseDigest === null || baseDigest === served)
  if (own.length < 2) return own[0]?.folder ?? null
  const names = own.map(({ folder }) => JSON.stringify(folder.id))
  const more = names.length > maxNamed ? ` and ${names.length - maxNamed} more` : ''
  return refuse(
    `--adapters holds several guards for this base: ${names.slice(0, maxNamed).join(', ')}${more}. ` +
      'Choose one with --guard, or start with --guard none.',
  )
}

const maxNamed = 5

interface FoundGuard {
  readonly folder: AdapterFolder
  readonly baseDigest: string | null
}

async function findGuards({ folders, onProgress, onNotice }: GuardChoice): Promise<FoundGuard[]> {
  const found: FoundGuard[] = []
  const scan = scanFolders(folders, {
    onProgress,
    onLeft: (left, total) =>
      onNotice(
        `${left} of ${total} adapter folders were not looked at for a guard, ` +
          `after ${maxScanMs / 1000} s: name it with --guard.`,
      ),
  })
  for await (const find of scan) {
    const guard = guardOf(find)
    if (guard !== null) found.push(guard)
  }
  return found
}

function guardOf(find: () => AdapterFolder | null): FoundGuard | null {
  try {
    const folder = find()
    if (folder === null) return null
    const { kind, baseDigest } = readManifest(folder)
    return kind === 'guard' ? { folder, baseDigest } : null
  } catch (error) {
    // A link that leads out: it is in the list of adapters, and nothing of it is read.
    if (!(error instanceof ServerError)) throw error
    return null
  }
}

function refuse(message: string): never {
  throw new ServerError('invalid_config', message)
}
