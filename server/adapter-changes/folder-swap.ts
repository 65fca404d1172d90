// Folders that come into service and leave it by a rename, so that a name always means a whole adapter. Two
// renames with nothing between them in this process; after a crash between them `recover` sets it right.
//
//   .dutyfree/incoming/<any>          being written        ─┐ install
//   <id>                              in service           ◄┘
//   .dutyfree/replaced/<id>~<random>  until the swap is on the disk; then deleted
//   .dutyfree/removed/<random>        being deleted
//   .dutyfree/unloaded/<id>           out of service, kept

import { randomUUID } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readdirSync, renameSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { privateFolder } from '../contracts/adapter.ts'
import { syncToDisk } from '../durable.ts'

const mark = '~'
const replacedFolder = 'replaced'
const removedFolder = 'removed'

export interface FolderSwap {
  /** Where the adapter of that name is, or will be. */
  pathOf(id: string): string
  unloadedPathOf(id: string): string
  /**
   * The folder is that name's from now on; `then` runs at once. Resolves when that is on the disk. What
   * fails before `then` has changed nothing.
   */
  install(path: string, id: string, then: () => void): Promise<void>
  /** The name has no folder from now on; the rest as with `install`. */
  remove(id: string, keepsFiles: boolean, then: () => void): Promise<void>
}

/** `root`: without symbolic links. */
export function createFolderSwap(root: string): FolderSwap {
  const own = (...names: string[]) => join(root, privateFolder, ...names)
  const pathOf = (id: string) => join(root, id)
  const unloadedPathOf = (id: string) => own('unloaded', id)

  function moveAside(path: string, place: string): string {
    mkdirSync(dirname(place), { recursive: true, mode: 0o700 })
    renameSync(path, place)
    return place
  }

  async function settle(paths: readonly string[], leftover: string | null): Promise<void> {
    for (const path of paths) await syncToDisk(path)
    if (leftover !== null) await rm(leftover, { recursive: true, force: true })
  }

  return {
    pathOf,
    unloadedPathOf,
    async install(path, id, then) {
      const former = isThere(pathOf(id))
        ? moveAside(pathOf(id), own(replacedFolder, `${id}${mark}${randomUUID()}`))
        : null
      try {
        renameSync(path, pathOf(id))
      } catch (error) {
        if (former !== null) renameSync(former, pathOf(id))
        throw error
      }
      then()
      await settle([root, dirname(path)], former)
    },
    async remove(id, keepsFiles, then) {
      const kept = unloadedPathOf(id)
      const older =
        keepsFiles && isThere(kept) ? moveAside(kept, own(removedFolder, randomUUID())) : null
      const place = keepsFiles ? kept : own(removedFolder, randomUUID())
      moveAside(pathOf(id), place)
      then()
      await settle([root, dirname(place)], keepsFiles ? older : place)
    },
  }
}

/** Longer than the process of another engine can stand between its two renames. */
const betweenRenamesMs = 1000

/**
 * What a crash left: a version without its successor comes back, the rest goes. An engine that still
 * serves may be in the middle of a change.
 */
export async function recoverFolders(root: string): Promise<void> {
  const own = join(root, privateFolder)
  for (const name of namesIn(join(own, replacedFolder))) {
    const id = name.slice(0, name.lastIndexOf(mark))
    const path = join(own, replacedFolder, name)
    if (id !== '' && !isThere(join(root, id))) await sleep(betweenRenamesMs)
    if (!isThere(path)) continue
    if (id === '' || isThere(join(root, id))) await rm(path, { recursive: true, force: true })
    else renameSync(path, join(root, id))
  }
  await rm(join(own, removedFolder), { recursive: true, force: true })
}

function namesIn(path: string): string[] {
  return existsSync(path) ? readdirSync(path) : []
}

/** A link that leads nowhere is there, too. */
function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined
}
