// Which modules the adapters of a folder change. The graph gets a site for adapters on those only,
// since each site costs a little on every row.

import { inLayerOrder, type LinearModule, linearModules } from '../contracts/checkpoint.ts'
import { readAdaptedPaths } from './adapted-paths.ts'
import type { AdapterFolder } from './adapter-folder.ts'
import { type FolderEntry, maxScanMs, scanFolders } from './folder-index.ts'
import { otherBase, readManifest } from './manifest.ts'

interface ScanOptions {
  /** Of the base that is served: adapters of another ask for nothing. null: all of them ask. */
  readonly baseDigest: string | null
  readonly onProgress: (done: number, total: number) => void
  readonly onNotice: (message: string) => void
}

/**
 * Looks at the headers of the tensor files; what is broken asks for nothing. An adapter that was not
 * looked at asks for its sites on use.
 */
export async function sitesOfFolders(
  entries: readonly FolderEntry[],
  { baseDigest = null, onProgress = () => {}, onNotice = () => {} }: Partial<ScanOptions> = {},
): Promise<readonly LinearModule[]> {
  const found = new Set<string>()
  const scan = scanFolders(entries, {
    onProgress,
    onLeft: (left, total) =>
      onNotice(
        `${left} of ${total} adapter folders were not looked at for the modules they change, ` +
          `after ${maxScanMs / 1000} s: name those with --adapter-modules.`,
      ),
  })
  for await (const find of scan) {
    for (const module of newModulesOf(find, found, baseDigest)) found.add(module)
    if (found.size === linearModules.length) break
  }
  return inLayerOrder([...found])
}

/** A guard is applied to no reply: it asks for sites only where it judges. */
function newModulesOf(
  find: () => AdapterFolder | null,
  found: ReadonlySet<string>,
  baseDigest: string | null,
): readonly LinearModule[] {
  try {
    const folder = find()
    const paths = [...((folder && readAdaptedPaths(folder)) ?? [])]
    const named = new Set(paths.map((path) => path.slice(path.lastIndexOf('.') + 1)))
    const modules = linearModules.filter((module) => named.has(module) && !found.has(module))
    return folder === null || modules.length === 0 || !mayRun(folder, baseDigest) ? [] : modules
  } catch {
    return []
  }
}

function mayRun(folder: AdapterFolder, baseDigest: string | null): boolean {
  const manifest = readManifest(folder)
  return manifest.kind !== 'guard' && otherBase(manifest, baseDigest) === null
}
