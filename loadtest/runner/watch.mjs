// Once a second: the server's own counters, and memory and descriptors of its processes where it runs
// on this machine and its process is known.

import { readdirSync, readFileSync } from 'node:fs'
import { headers } from './chat-client.mjs'

/** Linux's, on every machine that Node runs on. */
const ticksPerSecond = 100

const series = {
  running: 'vllm:num_requests_running',
  waiting: 'vllm:num_requests_waiting',
  tokens: 'vllm:generation_tokens_total',
  finished: 'vllm:request_success_total',
  disconnects: 'dutyfree_client_disconnects_total',
  restarts: 'dutyfree_engine_restarts_total',
}

/** The sum of each series over its labels. */
async function readCounters(url) {
  const response = await fetch(`${url}/metrics`, { headers, signal: AbortSignal.timeout(10_000) })
  if (!response.ok) throw new Error(`GET /metrics: ${response.status}`)
  const lines = (await response.text()).split('\n')
  const sum = (name) =>
    lines
      .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
      .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' '))), 0)
  return Object.fromEntries(Object.entries(series).map(([key, name]) => [key, sum(name)]))
}

/** A process and all below it. */
function processesOf(pid) {
  const parents = new Map()
  for (const name of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
    } catch {} // It ended meanwhile.
  }
  const found = [pid]
  for (const at of found)
    for (const [child, parent] of parents) if (parent === at) found.push(child)
  return found
}

/** {rssKiB, descriptors, cpuSeconds} of a process; zeros once it has ended. */
function readProcess(pid) {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const [user, system] = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, 13)
    return {
      rssKiB: Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0),
      descriptors: readdirSync(`/proc/${pid}/fd`).length,
      cpuSeconds: (Number(user) + Number(system)) / ticksPerSecond,
    }
  } catch {
    return { rssKiB: 0, descriptors: 0, cpuSeconds: 0 }
  }
}

const sumOf = (processes, name) => processes.reduce((sum, each) => sum + each[name], 0)

/**
 * {rssMiB, descriptors} of a server and its engine, {frontRssMiB} of its front alone, and CPU seconds so far of its front, its engine and
 * the clients, which are this process and its other children; {} where that is not known.
 */
function readProcesses(pid, engineCpu = new Map()) {
  if (pid === undefined || process.platform !== 'linux') return {}
  const pids = processesOf(pid)
  const [front, ...rest] = pids.map(readProcess)
  // An engine that another took over from has gone; what it used counts all the same.
  for (const [i, { cpuSeconds }] of rest.entries()) {
    if (cpuSeconds > 0) engineCpu.set(pids[i + 1], cpuSeconds)
  }
  const clients = processesOf(process.pid).filter((each) => !pids.includes(each))
  return {
    rssMiB: sumOf([front, ...rest], 'rssKiB') / 1024,
    frontRssMiB: front.rssKiB / 1024,
    descriptors: sumOf([front, ...rest], 'descriptors'),
    frontCpu: front.cpuSeconds,
    engineCpu: [...engineCpu.values()].reduce((sum, seconds) => sum + seconds, 0),
    clientCpu: sumOf(clients.map(readProcess), 'cpuSeconds'),
  }
}

/** Samples until `stop`, which resolves to them: [{atSeconds, …counters, rssMiB, descriptors}]. */
export function startWatch({ url, pid, onSample = () => {} }) {
  const startMs = performance.now()
  const samples = []
  const engineCpu = new Map()
  let isReading = false
  async function sample() {
    // The page is late under overload: a second is skipped rather than asked twice.
    if (isReading) return
    isReading = true
    try {
      const counters = await readCounters(url)
      const atSeconds = (performance.now() - startMs) / 1000
      samples.push({ atSeconds, ...counters, ...readProcesses(pid, engineCpu) })
      onSample(samples)
    } catch {
      // A gap in the figure tells.
    } finally {
      isReading = false
    }
  }
  const timer = setInterval(sample, 1000)
  sample()
  return {
    async stop() {
      clearInterval(timer)
      while (isReading) await new Promise((resolve) => setTimeout(resolve, 20))
      await sample()
      return samples
    },
  }
}

/** Until nothing runs or waits; rejects after `seconds`. */
export async function waitUntilIdle(url, seconds) {
  const deadline = performance.now() + seconds * 1000
  for (;;) {
    const { running, waiting, error } = await readCounters(url).catch((error) => ({ error }))
    if (running + waiting === 0) return
    if (performance.now() > deadline) {
      const state = error?.message ?? `${running} still run and ${waiting} wait`
      throw new Error(`after ${seconds} s: ${state}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

/** The fewest descriptors within `seconds` of rest: connections that ended need a moment to go. */
export async function restingDescriptors(pid, seconds, enough = 0) {
  let fewest = readProcesses(pid).descriptors
  for (let turn = 0; turn < seconds * 4 && fewest > enough; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 250))
    fewest = Math.min(fewest, readProcesses(pid).descriptors)
  }
  return fewest
}
