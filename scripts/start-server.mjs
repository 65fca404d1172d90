// Starts the built server on a free port for a script that wants to ask it something, and stops it.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { root } from './setup.mjs'

/** A free port of this machine only. */
export const localFlags = ['--port', '0', '--host', '127.0.0.1']

/**
 * Resolves to {url, pid, output, stop} once /health/ready says yes; rejects with the end of the server's
 * output when it does not within `patienceMs`. `options` go to spawn; `prefix` are words before the command.
 */
export async function startServer({
  command = [process.execPath, join(root, 'dist/server/main.js')],
  prefix = [],
  flags = localFlags,
  patienceMs = 120_000,
  options = {},
} = {}) {
  const [program, ...args] = [...prefix, ...command]
  const child = spawn(program, [...args, ...flags], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    ...options,
  })
  const exit = once(child, 'exit')
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (part) => {
      output = (output + part).slice(-20_000)
    })
  }
  const stop = async () => {
    child.kill('SIGTERM')
    const stuck = setTimeout(() => child.kill('SIGKILL'), 40_000)
    const [code] = await exit
    clearTimeout(stuck)
    return code
  }

  const deadline = performance.now() + patienceMs
  for (;;) {
    const url = /"url":"(http:[^"]+)"/.exec(output)?.[1]?.replace('//0.0.0.0:', '//127.0.0.1:')
    if (url !== undefined && (await isReady(url)))
      return { url, pid: child.pid, output: () => output, stop }
    if (child.exitCode !== null || child.signalCode !== null || performance.now() > deadline) {
      await stop()
      throw new Error(`the server did not get ready:\n${output}`)
    }
    await sleep(50)
  }
}

async function isReady(url) {
  try {
    const response = await fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(5000) })
    return response.ok
  } catch {
    return false
  }
}
