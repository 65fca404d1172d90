// The files of an adapter folder. A folder is named by a plain name inside the adapters root, and
// neither it nor its files may lead out of that root by a link.

import { readdirSync, readFileSync, statSync } from 'node:fs'
import { readFile, realpath, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { adapterNamePattern } from '../contracts/adapter.ts'
import { ServerError } from '../errors.ts'

const configName = 'adapter_config.json'
const tensorsName = 'adapter_model.safetensors'
const manifestName = 'manifest.json'
const maxConfigBytes = 1_000_000
const maxTensorBytes = 2 ** 31 - 1

export interface AdapterFiles {
  readonly config: unknown
  readonly tensors: Buffer
}

/** What changes when either file is replaced. */
export async function fingerprint(root: string, name: string): Promise<string> {
  const folder = await openFolder(root, name)
  const stats = await Promise.all(
    [configName, tensorsName].map((file) => stat(join(folder, file)).catch(() => null)),
  )
  return stats.map((s) => (s === null ? '-' : `${s.ino}:${s.size}:${s.mtimeMs}`)).join('/')
}

/** Reads both files. Throws ServerError. */
export async function readAdapterFiles(root: string, name: string): Promise<AdapterFiles> {
  const folder = await openFolder(root, name)
  const config = await readInside(root, folder, configName, maxConfigBytes)
  const tensors = await readInside(root, folder, tensorsName, maxTensorBytes)
  return { config: parseJson(config), tensors }
}

async function openFolder(root: string, name: string): Promise<string> {
  const missing = () =>
    new ServerError(
      'model_not_found',
      `There is no adapter ${JSON.stringify(name.slice(0, 80))}.`,
      {
        param: 'adapter',
      },
    )
  if (!adapterNamePattern.test(name)) throw missing()
  const folder = join(root, name)
  const [realRoot, realFolder] = await Promise.all([
    realpath(root).catch(() => null),
    realpath(folder).catch(() => null),
  ])
  if (realRoot === null || realFolder === null) throw missing()
  if (!realFolder.startsWith(realRoot + sep)) {
    throw new ServerError('invalid_adapter', `Adapter ${name} lies outside the adapters folder.`)
  }
  if (!(await stat(realFolder)).isDirectory()) throw missing()
  return folder
}

async function readInside(root: string, folder: string, file: string, limit: number) {
  const path = join(folder, file)
  const [realRoot, real] = await Promise.all([realpath(root), realpath(path).catch(() => null)])
  if (real === null) {
    const pickles = readdirSync(folder).some((entry) => /\.(bin|pt|pth)$/.test(entry))
    const hint =
      pickles && file === tensorsName ? ' A pickle is not accepted: save it as safetensors.' : ''
    throw new ServerError('invalid_adapter', `${file} is missing.${hint}`)
  }
  if (!real.startsWith(realRoot + sep)) {
    throw new ServerError('invalid_adapter', `${file} leads out of the adapters folder.`)
  }
  const info = await stat(real)
  if (!info.isFile()) throw new ServerError('invalid_adapter', `${file} is not a regular file.`)
  if (info.size > limit) {
    throw new ServerError(
      'invalid_adapter',
      `${file} may have at most ${limit} bytes; it has ${info.size}.`,
    )
  }
  return readFile(real)
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    throw new ServerError('invalid_adapter', `${configName} is not valid JSON.`)
  }
}

/** Names of the folders that may hold an adapter, sorted. */
export function listFolders(root: string): string[] {
  let names: string[]
  try {
    names = readdirSync(root)
  } catch {
    return []
  }
  const isAdapter = (name: string) => {
    if (!adapterNamePattern.test(name)) return false
    try {
      return statSync(join(root, name, configName)).isFile()
    } catch {
      return false
    }
  }
  return names.filter(isAdapter).sort()
}

/** manifest.json, or null: it informs, and a broken one is no reason to refuse the adapter. */
export function readManifest(root: string, name: string): Record<string, unknown> | null {
  try {
    const path = join(root, name, manifestName)
    if (statSync(path).size > maxConfigBytes) return null
    const parsed: unknown = JSON.parse(readFileSync(path, 'utf8'))
    const isObject = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)
    return isObject ? (parsed as Record<string, unknown>) : null
  } catch {
    return null
  }
}
