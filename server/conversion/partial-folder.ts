// A folder of the cache that is being written, or being thrown away. Its name says which machine and
// process it belongs to, so that what a dead one left is known and removed.

import { createHash, randomBytes } from 'node:crypto'
import { readdirSync, rmSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'

// The cache may be shared by containers, whose process numbers say nothing to one another.
const host = createHash('sha256').update(hostname()).digest('hex').slice(0, 8)
const pattern = /\.([0-9a-f]{8})\.(\d+)\.([0-9a-f]{8})\.partial$/
/** Those of this process: a later process of the same number must not take them for its own. */
const own = new Set<string>()

/** A name that no other folder has, beside `folder`. */
export function partialName(folder: string): string {
  const mark = randomBytes(4).toString('hex')
  own.add(mark)
  return `${folder}.${host}.${process.pid}.${mark}.partial`
}

/** Removes what dead processes of this machine left; returns the names. */
export function removeLeftovers(cacheDir: string): string[] {
  const left = readdirSync(cacheDir).filter((name) => {
    const [, madeOn, pid, mark = ''] = pattern.exec(name) ?? []
    if (madeOn !== host || own.has(mark)) return false
    return Number(pid) === process.pid || !isAlive(Number(pid))
  })
  return left.filter((name) => isRemoved(join(cacheDir, name)))
}

/** A cache that is read-only serves what it has; what was left there does no harm. */
function isRemoved(path: string): boolean {
  try {
    rmSync(path, { recursive: true, force: true })
    return true
  } catch (error) {
    if (typeof (error as NodeJS.ErrnoException).code === 'string') return false
    throw error
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}
