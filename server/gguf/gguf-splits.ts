// A checkpoint may be split: name-00001-of-00003.gguf and so on, each a whole GGUF file that says its
// own number and how many there are. Any of them opens all.

import { basename, dirname, join } from 'node:path'
import { quoteName } from '../contracts/printable.ts'
import { failAs, type GgufPart, openPart } from './gguf-part.ts'
import type { Fail } from './header-cursor.ts'

/** All are held open; a process may often open no more than 1,024 files. */
const mostParts = 512

/** The parts in order. */
export function openParts(path: string): readonly GgufPart[] {
  const opened: GgufPart[] = []
  const open = (one: string) => {
    const part = openPart(one)
    opened.push(part)
    return part
  }
  try {
    const given = open(path)
    const count = readCount(given)
    if (count === null) return [given]
    const parts = pathsOfParts(given, count).map((other) => (other === path ? given : open(other)))
    for (const [at, part] of parts.entries()) checkPart(part, at, count)
    checkTensors(parts)
    return parts
  } catch (error) {
    for (const part of opened) part.close()
    throw error
  }
}

/** Null where the file is not split. */
function readCount(part: GgufPart): number | null {
  const count = part.header.metadata.get('split.count')
  if (count === undefined || count === 0 || count === 1) return null
  const fail = failAs('invalid_checkpoint', part.path)
  if (typeof count !== 'number' || !Number.isInteger(count) || count < 0) {
    return fail('split.count is not a whole number')
  }
  if (count > mostParts) fail(`split.count is ${count}; at most ${mostParts} parts are accepted`)
  return count
}

function pathsOfParts({ path }: GgufPart, count: number): string[] {
  const fail = failAs('invalid_checkpoint', path)
  const digits = (number: number) => String(number).padStart(5, '0')
  const end = `-of-${digits(count)}.gguf`
  const stem = /^(.*)-\d{5}-of-\d{5}\.gguf$/s.exec(basename(path))?.[1]
  if (stem === undefined || !path.endsWith(end)) {
    return fail(`it is one of ${count} parts, so its name must end in -00001${end} or the like`)
  }
  const nameOf = (at: number) => `${stem}-${digits(at + 1)}${end}`
  const names = Array.from({ length: count }, (_, at) => nameOf(at))
  if (!names.includes(basename(path))) fail(`there is no part of that number; they end with ${end}`)
  // The given path itself, as it was written.
  return names.map((name) => (name === basename(path) ? path : join(dirname(path), name)))
}

function checkPart({ path, header }: GgufPart, at: number, count: number): void {
  const fail = failAs('invalid_checkpoint', path)
  const told = (key: string) => describe(header.metadata.get(key))
  if (told('split.count') !== String(count)) {
    fail(`split.count is ${told('split.count')}; the other parts say ${count}`)
  }
  if (told('split.no') !== String(at)) {
    fail(`split.no is ${told('split.no')}; by its name it must be ${at}`)
  }
}

function checkTensors(parts: readonly GgufPart[]): void {
  const owners = new Map<string, string>()
  for (const { path, header } of parts) {
    for (const name of header.tensors.keys()) {
      const owner = owners.get(name)
      if (owner !== undefined) {
        failAs('invalid_checkpoint', path)(`tensor ${quoteName(name)} is also in ${owner}`)
      }
      owners.set(name, basename(path))
    }
  }
  const first = parts[0]!
  const total = first.header.metadata.get('split.tensors.count')
  if (total !== undefined && total !== owners.size) {
    const fail: Fail = failAs('invalid_checkpoint', first.path)
    fail(`split.tensors.count is ${describe(total)}; the parts have ${owners.size} tensors`)
  }
}

function describe(value: unknown): string {
  if (value === undefined) return 'missing'
  return typeof value === 'number' || typeof value === 'bigint' ? String(value) : 'no number'
}
