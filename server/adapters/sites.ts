// Which modules the adapters of a folder change. The graph gets a site for adapters on those only,
// since each site costs a little on every row.

import { openSafetensors } from '../checkpoint/safetensors.ts'
import { type LinearModule, linearModules } from '../contracts/checkpoint.ts'
import {
  type AdapterFolder,
  fileInside,
  listAdapterFolders,
  tensorsFile,
} from './adapter-folder.ts'

/**
 * Reads the headers of the tensor files, never tensors; what is broken asks for nothing. `onFolder` is
 * called before each folder.
 */
export function sitesOfFolder(
  root: string,
  onFolder: () => void = () => {},
): readonly LinearModule[] {
  const found = new Set<string>()
  for (const { find } of listAdapterFolders(root)) {
    onFolder()
    for (const key of tensorKeys(find)) {
      const module = /\.([a-z]+_proj)\.lora_A\.weight$/.exec(key)?.[1]
      if (module !== undefined) found.add(module)
    }
  }
  return linearModules.filter((module) => found.has(module))
}

/** The modules of several lists, each once, in the order of a layer. */
export function joinSites(...lists: readonly (readonly LinearModule[])[]): readonly LinearModule[] {
  return linearModules.filter((module) => lists.some((list) => list.includes(module)))
}

function tensorKeys(find: () => AdapterFolder | null): string[] {
  try {
    const folder = find()
    const path = folder && fileInside(folder, tensorsFile)
    if (!path) return []
    const file = openSafetensors(path, { code: 'invalid_adapter' })
    file.close()
    return [...file.tensors.keys()]
  } catch {
    return []
  }
}
