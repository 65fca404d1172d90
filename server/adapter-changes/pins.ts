// Which adapters are pinned, over restarts: a list of names in the adapters folder.

import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { adapterNamePattern, privateFolder } from '../contracts/adapter.ts'

const schema = z.array(z.string().regex(adapterNamePattern)).max(10_000)

function pathIn(root: string): string {
  return join(root, privateFolder, 'pins.json')
}

export interface Pins {
  set(id: string, isPinned: boolean): void
}

/** `onPin` is told of each of the list, then of each change. */
export function createPins(root: string, onPin: (id: string, isPinned: boolean) => void): Pins {
  const pins = new Set(readPins(root))
  for (const id of pins) onPin(id, true)
  return {
    set(id, isPinned) {
      if (isPinned === pins.has(id)) return
      const others = [...pins].filter((name) => name !== id)
      writePins(root, isPinned ? [...others, id] : others)
      if (isPinned) pins.add(id)
      else pins.delete(id)
      onPin(id, isPinned)
    },
  }
}

/** None where there is no such list, or none that can be read. */
export function readPins(root: string): readonly string[] {
  try {
    return schema.parse(JSON.parse(readFileSync(pathIn(root), 'utf8')))
  } catch {
    return []
  }
}

function writePins(root: string, ids: readonly string[]): void {
  const path = pathIn(root)
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  writeFileSync(`${path}.new`, JSON.stringify([...ids].sort()), { flush: true })
  renameSync(`${path}.new`, path)
}
