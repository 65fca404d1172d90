// Server and clients on cores of their own (Linux), so that a load test's clients take nothing from the
// server.

import { spawnSync } from 'node:child_process'

/**
 * Moves this process, and with it k6, to the second half of the cores. Returns how a server is started on
 * the first half: words before its command, and how many cores it has. Throws where that is impossible.
 */
export function partCores() {
  const allowed = listOf(taskset(['-cp', String(process.pid)]))
  if (allowed.length < 2) throw new Error('--apart needs two cores or more')
  const half = Math.floor(allowed.length / 2)
  taskset(['-cp', allowed.slice(half).join(','), String(process.pid)])
  // k6 makes as many threads as it may use cores, which it reads from its own affinity.
  return { prefix: ['taskset', '-c', allowed.slice(0, half).join(',')], cores: half }
}

function taskset(args) {
  const { status, error, stdout, stderr } = spawnSync('taskset', args, { encoding: 'utf8' })
  if (status === 0) return stdout
  const reason = error?.code === 'ENOENT' ? 'taskset (util-linux) was not found' : stderr.trim()
  throw new Error(`--apart: ${reason}`)
}

/** The cores of taskset's last list: "…: 0,2-3". */
function listOf(output) {
  const list = /: ([\d,-]+)\s*$/.exec(output)?.[1] ?? ''
  return list.split(',').flatMap((part) => {
    const [first, last = first] = part.split('-').map(Number)
    return Array.from({ length: last - first + 1 }, (_, i) => first + i)
  })
}
