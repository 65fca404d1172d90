// Where an upload is written before anybody checks it: a folder beside the adapters, on the same disk, so
// that it comes into service by a rename. Its name says whose it is: what a process left that is gone, the
// next one deletes at its start.

import { createHash, randomUUID } from 'node:crypto'
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { incomingFolder } from '../../contracts/adapter.ts'

export interface StagedFolder {
  readonly name: string
  readonly path: string
  /** Whatever is left of it. */
  remove(): Promise<void>
}

export interface Staging {
  open(): Promise<StagedFolder>
}

/** Names of machines are nobody's business. */
const host = createHash('sha256').update(hostname()).digest('hex').slice(0, 12)
const namePattern = /^([0-9a-f]{12})\.(\d{1,10})\./
/** Of other machines nobody knows whether they run: an upload takes no day. */
const maxAgeMs = 24 * 3600 * 1000

export function createStaging(root: string): Staging {
  const incoming = resolve(root, incomingFolder)
  const swept = sweep(incoming).catch(() => {})
  return {
    async open() {
      await swept
      const name = `${host}.${process.pid}.${randomUUID()}`
      const path = join(incoming, name)
      await mkdir(path, { recursive: true })
      return { name, path, remove: () => rm(path, { recursive: true, force: true }) }
    },
  }
}

/** This process has written nothing yet: what has its number is an earlier one's. */
async function sweep(incoming: string): Promise<void> {
  for (const name of await readdir(incoming)) {
    const path = join(incoming, name)
    const [, ofHost, pid] = namePattern.exec(name) ?? []
    const isLeft = ofHost === host ? !isOfOther(Number(pid)) : await isOld(path)
    if (isLeft) await rm(path, { recursive: true, force: true })
  }
}

function isOfOther(pid: number): boolean {
  if (pid === process.pid) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

async function isOld(path: string): Promise<boolean> {
  const { mtimeMs } = await stat(path)
  return Date.now() - mtimeMs > maxAgeMs
}
