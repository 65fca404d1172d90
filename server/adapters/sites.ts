// Which modules the adapters of a folder change. The graph gets a site for adapters on those only,
// since each site costs a little on every row.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { type LinearModule, linearModules } from '../contracts/checkpoint.ts'
import { readAdaptedPaths } from './adapted-paths.ts'
import { type AdapterFolder, listAdapterFolders } from './adapter-folder.ts'

/** A start waits no longer for this; an adapter that was not looked at asks for its sites on use. */
const maxScanMs = 5000
const sliceMs = 20

interface ScanEvents {
  readonly onProgress: (done: number, total: number) => void
  readonly onNotice: (message: string) => void
}

/** Looks at the headers of the tensor files; what is broken asks for nothing. */
export async function sitesOfFolder(
  root: string,
  { onProgress = () => {}, onNotice = () => {} }: Partial<ScanEvents> = {},
): Promise<readonly LinearModule[]> {
  const found = new Set<string>()
  const folders = listAdapterFolders(root)
  const start = performance.now()
  let sliceEnd = start + sliceMs
  for (const [i, { find }] of folders.entries()) {
    if (found.size === linearModules.length) break
    const now = performance.now()
    if (now - start > maxScanMs) {
      onNotice(
        `${folders.length - i} of ${folders.length} adapter folders were not looked at for the ` +
          `modules they change, after ${maxScanMs / 1000} s: name those with --adapter-modules.`,
      )
      break
    }
    if (now > sliceEnd) {
      onProgress(i, folders.length)
      await nextTurn()
      sliceEnd = performance.now() + sliceMs
    }
    for (const path of pathsOf(find)) {
      const module = path.slice(path.lastIndexOf('.') + 1)
      if (linearModules.some((known) => known === module)) found.add(module)
    }
  }
  if (sliceEnd > start + sliceMs) onProgress(folders.length, folders.length)
  return linearModules.filter((module) => found.has(module))
}

/** The modules of several lists, each once, in the order of a layer. */
export function joinSites(...lists: readonly (readonly LinearModule[])[]): readonly LinearModule[] {
  return linearModules.filter((module) => lists.some((list) => list.includes(module)))
}

function pathsOf(find: () => AdapterFolder | null): Iterable<string> {
  try {
    const folder = find()
    return (folder && readAdaptedPaths(folder)) ?? []
  } catch {
    return []
  }
}
