// How long this process's threads stood in line for a processor, as Linux counts it. It tells a process
// that a busy machine starves from one that hangs: a call that hangs runs, or sleeps, and waits in no line.

import { readdirSync, readFileSync } from 'node:fs'

/** Milliseconds so far, by thread; null where the system does not say. */
export function readRunDelays(tasks = '/proc/self/task'): ReadonlyMap<string, number> | null {
  try {
    const delays = readdirSync(tasks).map(
      (id) => [id, readDelay(`${tasks}/${id}/schedstat`)] as const,
    )
    return new Map(delays.filter((entry): entry is [string, number] => entry[1] !== null))
  } catch {
    return null // Not Linux, or not allowed.
  }
}

/** Nanoseconds that it ran, nanoseconds that it waited, and how often it ran. */
function readDelay(path: string): number | null {
  try {
    const delay = /^\d+ (\d+) \d+/.exec(readFileSync(path, 'latin1'))?.[1]
    return delay === undefined ? null : Number(delay) / 1e6
  } catch {
    return null // The thread has ended.
  }
}

/**
 * Whole milliseconds in which the process could not go on, summed up over the calls: between two of
 * them, as long as the thread that waited longest.
 */
export function createStarvation(
  runDelays: () => ReadonlyMap<string, number> | null,
  now: () => number,
): () => number {
  let before = runDelays()
  let calledAt = now()
  let total = 0
  return function starvedMs() {
    const delays = runDelays()
    const elapsed = now() - calledAt
    calledAt += elapsed
    let longest = 0
    for (const [id, ms] of delays ?? []) longest = Math.max(longest, ms - (before?.get(id) ?? ms))
    before = delays
    total += Math.min(longest, elapsed)
    return Math.floor(total)
  }
}
