// How many threads compute by default: one per core that this process may use. ONNX Runtime's own default
// counts the same but ties each thread to a core, where it waits for whatever else runs on that core.

import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

/** Cores of the machine or, where that cannot be told (not Linux), its logical processors. */
export function countCores(readInfo = (): string => readFileSync('/proc/cpuinfo', 'utf8')): number {
  const allowed = availableParallelism()
  let info: string
  try {
    info = readInfo()
  } catch {
    return allowed
  }
  return Math.min(countPhysical(info) || allowed, allowed)
}

/** Different pairs of "physical id" and "core id" in /proc/cpuinfo; 0 where it has none. */
export function countPhysical(info: string): number {
  const cores = info.split('\n\n').flatMap((processor) => {
    const [socket, core] = ['physical id', 'core id'].map((name) =>
      new RegExp(`^${name}\\s*: (\\d+)$`, 'm').exec(processor),
    )
    return socket && core ? [`${socket[1]}.${core[1]}`] : []
  })
  return new Set(cores).size
}
