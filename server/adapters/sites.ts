// Which modules the adapters of a folder change. The graph gets a site for adapters on those only,
// since each site costs a little on every row.

import { readdirSync } from 'node:fs'
import { adapterNamePattern } from '../contracts/adapter.ts'
import { type LinearModule, linearModules } from '../contracts/checkpoint.ts'
import { openSafetensors } from '../model/safetensors.ts'
import { fileInside, findAdapterFolder, tensorsFile } from './adapter-folder.ts'

/** Always there: rank-1 safety adapters change up_proj, and may come while the server runs. */
const always: LinearModule = 'up_proj'

/** Reads the headers of the tensor files, never tensors; what is broken asks for nothing. */
export function neededSites(root: string): readonly LinearModule[] {
  const needed = new Set<string>([always])
  for (const id of listNames(root)) {
    for (const key of tensorKeys(root, id)) {
      const module = /\.([a-z]+_proj)\.lora_A\.weight$/.exec(key)?.[1]
      if (module !== undefined) needed.add(module)
    }
  }
  return linearModules.filter((module) => needed.has(module))
}

function listNames(root: string): string[] {
  try {
    return readdirSync(root).filter((name) => adapterNamePattern.test(name))
  } catch {
    return []
  }
}

function tensorKeys(root: string, id: string): string[] {
  try {
    const folder = findAdapterFolder(root, id)
    const path = folder && fileInside(folder, tensorsFile)
    if (!path) return []
    const file = openSafetensors(path, { code: 'invalid_adapter' })
    file.close()
    return [...file.tensors.keys()]
  } catch {
    return []
  }
}
