// How much memory a process may still take: the machine's free memory, or less where a control group (a
// container) allows less. Only Linux has control groups.

import { readFileSync } from 'node:fs'
import { freemem } from 'node:os'

export interface MemorySources {
  readonly freeBytes: () => number
  /** A file's text; undefined where there is none. */
  readonly read: (path: string) => string | undefined
}

/** Files of the two versions of control groups; "unlimited" is a word or a number beyond any machine. */
const versions = [
  {
    root: '/sys/fs/cgroup',
    controller: /^0::(.*)$/m,
    limit: 'memory.max',
    used: 'memory.current',
    reclaimable: /^inactive_file (\d+)$/m,
  },
  {
    root: '/sys/fs/cgroup/memory',
    controller: /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m,
    limit: 'memory.limit_in_bytes',
    used: 'memory.usage_in_bytes',
    reclaimable: /^total_inactive_file (\d+)$/m,
  },
] as const

export function readFreeMemory(sources: MemorySources = machine): number {
  const { freeBytes, read } = sources
  const groups = read('/proc/self/cgroup') ?? ''
  let free = freeBytes()
  for (const version of versions) {
    const group = version.controller.exec(groups)?.[1]
    if (group === undefined) continue
    // Every group above may set a limit too. In a container the group's own path may not be visible.
    for (const folder of [...foldersUp(group), '']) {
      const folderPath = `${version.root}${folder}`
      const limit = Number(read(`${folderPath}/${version.limit}`) ?? Number.NaN)
      const used = Number(read(`${folderPath}/${version.used}`) ?? Number.NaN)
      if (!Number.isFinite(limit) || !Number.isFinite(used)) continue
      const cached = version.reclaimable.exec(read(`${folderPath}/memory.stat`) ?? '')?.[1]
      free = Math.min(free, limit - used + Number(cached ?? 0))
    }
  }
  return Math.max(0, free)
}

/** /a/b → /a/b and /a */
function foldersUp(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '')
  return names.map((_, i) => `/${names.slice(0, names.length - i).join('/')}`)
}

const machine: MemorySources = {
  freeBytes: freemem,
  read: (path) => {
    try {
      return readFileSync(path, 'utf8')
    } catch {
      return undefined
    }
  },
}
