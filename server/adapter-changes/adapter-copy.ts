// A copy of an adapter's folder that nobody else writes.

import { constants, statSync } from 'node:fs'
import { copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type AdapterFolder, fileInside } from '../adapters/adapter-folder.ts'
import { adapterFiles } from '../contracts/adapter.ts'
import { syncToDisk } from '../durable.ts'

/** Only what an adapter consists of, synced. Later writes to the original do not change it. */
export async function copyAdapter(from: AdapterFolder, to: string): Promise<void> {
  await mkdir(to, { recursive: true, mode: 0o700 })
  for (const name of Object.values(adapterFiles)) {
    const path = fileInside(from, name)
    // What is missing, or no file, is told when the copy is checked.
    if (path === null || !statSync(path).isFile()) continue
    await copyFile(path, join(to, name), constants.COPYFILE_FICLONE)
    await syncToDisk(join(to, name))
  }
  await syncToDisk(to)
}
