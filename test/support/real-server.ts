// The server as users start it: dist/server/main.js in a process of its own, on a free port.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { within } from './deadline.ts'
import { root } from './root.ts'

/** Loading the model included, on a busy machine. */
const patience = 60_000

export interface RealServer {
  readonly url: string
  readonly pid: number
  /** Its log so far. */
  readonly lines: readonly string[]
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>
}

export async function startServer(
  flags: readonly string[],
  { readyWithinMs = patience } = {},
): Promise<RealServer> {
  const main = join(root, 'dist', 'server', 'main.js')
  const args = [main, '--port', '0', '--log-level', 'info', ...flags]
  const child = spawn(process.execPath, args, {
    cwd: root,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const exited = once(child, 'exit').then(([code]) => code as number | null)
  const lines: string[] = []
  try {
    const url = await within(readyWithinMs, 'ready server', readUrl(child, lines, exited))
    return {
      url,
      pid: child.pid!,
      lines,
      async stop() {
        child.kill('SIGTERM')
        try {
          return await within(patience, 'exit of the server', exited)
        } finally {
          child.kill('SIGKILL')
        }
      },
    }
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  }
}

/** Reads the log until the line that says ready; goes on reading, so that the pipe never fills. */
function readUrl(
  { stderr }: ChildProcess,
  lines: string[],
  exited: Promise<number | null>,
): Promise<string> {
  return new Promise((resolve, reject) => {
    createInterface({ input: stderr! }).on('line', (line) => {
      lines.push(line)
      const { msg, url } = line.startsWith('{') ? JSON.parse(line) : {}
      if (msg === 'ready') resolve(url)
    })
    exited.then((code) => reject(new Error(`the server ended with ${code}:\n${lines.join('\n')}`)))
  })
}
