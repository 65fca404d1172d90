// What is odd about the adapters folder as a whole, told once at the start: that there is nothing in
// it to serve, folders whose names no request can say, and adapters for another base.

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { AdapterQuery, AdapterSummary } from '../contracts/adapter.ts'
import type { EngineOptions } from '../contracts/engine.ts'
import { configFile } from './adapter-folder.ts'
import { type FolderEntry, readFolderEntries } from './folder-index.ts'

const maxNamed = 5

/** What is in the folder, by name; what is odd about it is told. */
export async function readSurveyed(
  { adapters, servedModelName }: Pick<EngineOptions, 'adapters' | 'servedModelName'>,
  events: { readonly onProgress: () => void; readonly onNotice: (message: string) => void },
): Promise<readonly FolderEntry[]> {
  const folders = await readFolderEntries(adapters, events.onProgress)
  const notices = surveyAdapters(adapters, folders, ['none', servedModelName])
  for (const notice of notices) events.onNotice(notice)
  return folders
}

export function surveyAdapters(
  root: string,
  entries: readonly FolderEntry[],
  reserved: readonly string[],
): readonly string[] {
  const isUsable = ({ id, find }: FolderEntry) => find !== null && !reserved.includes(id)
  const usable = entries.filter(isUsable)
  const misnamed = entries.filter((entry) => !isUsable(entry)).map(({ id }) => id)
  return [
    ...(usable.length === 0 ? [`--adapters ${root} holds no adapter: ${whyNone(root)}.`] : []),
    ...(misnamed.length === 0
      ? []
      : [`--adapters: folders whose names cannot be used: ${listed(misnamed)}; rename them.`]),
  ]
}

/** A start waits no longer for this. */
const maxSurveyMs = 2000
const pageSize = 200

/** One line about those that are served on another base; null: there are none. */
export async function surveyBases(
  list: (query: AdapterQuery) => Promise<readonly AdapterSummary[]>,
  { now, onPage }: { readonly now: () => number; readonly onPage: () => void },
): Promise<string | null> {
  const end = now() + maxSurveyMs
  const others: string[] = []
  let after: string | undefined
  for (;;) {
    const from = after === undefined ? {} : { after }
    const page = await list({ ...from, limit: pageSize, isBrief: true })
    for (const { id, state } of page) if (state === 'other_base') others.push(id)
    onPage()
    if (page.length < pageSize) return describeOthers(others, '')
    if (now() > end) return describeOthers(others, 'At least ')
    after = page.at(-1)!.id
  }
}

function describeOthers(ids: readonly string[], atLeast: string): string | null {
  if (ids.length === 0) return null
  const are = ids.length === 1 ? 'adapter is' : 'adapters are'
  return (
    `${atLeast}${ids.length} ${are} for another base, and not served: ${listed(ids)}; ` +
    'GET /v1/adapters says for which.'
  )
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
