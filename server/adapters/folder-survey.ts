// What is odd about the adapters folder as a whole, told once at the start: that there is nothing in
// it to serve, and folders whose names no request can say.

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { configFile, listFolderNames } from './adapter-folder.ts'

const maxNamed = 5

export function surveyAdapters(root: string, reserved: readonly string[]): readonly string[] {
  const names = listFolderNames(root)
  const usable = names.usable.filter((name) => !reserved.includes(name))
  const misnamed = [...names.misnamed, ...names.usable.filter((name) => reserved.includes(name))]
  return [
    ...(usable.length === 0 ? [`--adapters ${root} holds no adapter: ${whyNone(root)}.`] : []),
    ...(misnamed.length === 0
      ? []
      : [`--adapters: folders whose names cannot be used: ${listed(misnamed)}; rename them.`]),
  ]
}

function whyNone(root: string): string {
  const info = statSync(root, { throwIfNoEntry: false })
  if (info === undefined) return 'there is no such folder'
  if (!info.isDirectory()) return 'it is not a folder'
  if (existsSync(join(root, configFile))) return 'it is an adapter itself; name the folder above it'
  return 'each adapter is a folder in it'
}

function listed(names: readonly string[]): string {
  const more = names.length - maxNamed
  const shown = names.slice(0, maxNamed).map((name) => JSON.stringify(name.slice(0, 80)))
  return `${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}
