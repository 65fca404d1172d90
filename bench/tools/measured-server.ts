// The server as users start it, with the probe that tells how late its two event loops come. A server
// that ends before it is ready is an error with its log.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const root = join(import.meta.dirname, '..', '..', '..')
const probe = join(root, 'bench', 'peers', 'lag-probe.mjs')
const main = join(root, 'dist', 'server', 'main.js')

/** Longest lag of each event loop, in ms. */
export interface Lag {
  readonly front: number
  readonly engine: number
}

export interface MeasuredServer {
  readonly url: string
  /** Begins a measurement, and ends it the next time. */
  readLag(): Promise<Lag>
  /** Of the processes of the moment. */
  pids(): { readonly front: number; readonly engine: number }
  stop(): void
}

/** Rejects with the server's log where it ends first. */
export async function startMeasuredServer(flags: readonly string[]): Promise<MeasuredServer> {
  const server = spawn(process.execPath, ['--import', probe, main, '--port', '0', ...flags], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const readings = new Map<number, (max: number) => void>()
  const log: string[] = []
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: server.stderr! }).on('line', (line) => {
      const entry = line.startsWith('{') ? JSON.parse(line) : {}
      if (entry.msg === 'ready') resolve(entry.url)
      if (entry.eventLoopLag === undefined) log.push(line)
      else readings.get(entry.pid)?.(entry.eventLoopLag.max)
    })
    once(server, 'exit').then(([code, signal]) => {
      reject(new Error(`the server ended with ${signal ?? code}:\n${log.join('\n')}`))
    })
  })

  function read(pid: number): Promise<number> {
    const reading = new Promise<number>((resolve) => readings.set(pid, resolve))
    process.kill(pid, 'SIGUSR2')
    return reading
  }

  return {
    url,
    async readLag() {
      const [front, engine] = await Promise.all([read(server.pid!), read(childOf(server))])
      return { front, engine }
    },
    pids: () => ({ front: server.pid!, engine: childOf(server) }),
    stop: () => void server.kill('SIGTERM'),
  }
}

/** The engine, the one child of the front. */
function childOf({ pid }: ChildProcess): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0])
}
