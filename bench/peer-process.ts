// A peer as the benchmark holds it: a child process that answers one request at a time.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { withHugePages } from '../server/engine-client/huge-pages.ts'
import type { Measurement, PeerInfo, PeerMessage } from './peers/protocol.ts'

export interface PeerProcess {
  readonly info: PeerInfo
  call(op: string, args: unknown): Promise<Measurement>
  stop(): Promise<void>
}

const loadPatienceMs = 600_000
const callPatienceMs = 600_000
const stopPatienceMs = 45_000

/** Resolves once the peer has loaded; rejects with the end of what it printed. */
export async function startPeer(
  command: readonly [string, ...string[]],
  spec: unknown,
): Promise<PeerProcess> {
  const [program, ...args] = command
  // Every engine gets the memory that ours asks for itself.
  const env = withHugePages(process.env)
  const child = spawn(program, [...args, JSON.stringify(spec)], { stdio: 'pipe', env })
  const exit = once(child, 'exit').catch(() => [1])
  let printed = ''
  function keep(text: string) {
    printed = `${printed}${text}`.slice(-4000)
  }
  child.on('error', (error) => keep(String(error)))
  child.stdin.on('error', () => {})
  child.stderr.setEncoding('utf8').on('data', keep)
  let receive: (message: PeerMessage) => void = () => {}
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line.startsWith('@')) receive(JSON.parse(line.slice(1)) as PeerMessage)
    else keep(`${line}\n`)
  })

  function next(patienceMs: number, what: string): Promise<PeerMessage> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        child.kill('SIGKILL')
        reject(new Error(`${what} took more than ${patienceMs / 1000} s`))
      }, patienceMs)
      receive = (message) => {
        clearTimeout(timer)
        resolve(message)
      }
      void exit.then(([code]) => {
        clearTimeout(timer)
        reject(new Error(`the peer ended (${code}): ${printed.trim()}`))
      })
    })
  }

  async function stop(): Promise<void> {
    child.stdin.end()
    const timer = setTimeout(() => child.kill('SIGKILL'), stopPatienceMs)
    await exit
    clearTimeout(timer)
  }

  const ready = await next(loadPatienceMs, 'loading')
  if (ready.kind !== 'ready') throw new Error(`the peer began with ${ready.kind}`)
  let lastId = 0
  return {
    info: ready.info,
    async call(op, callArgs) {
      const id = ++lastId
      child.stdin.write(`${JSON.stringify({ id, op, args: callArgs })}\n`)
      const message = await next(callPatienceMs, op)
      if (message.kind === 'answer' && message.id === id) return message.value
      throw new Error(message.kind === 'failed' ? message.message : `unexpected ${message.kind}`)
    },
    stop,
  }
}
