// One engine process from its fork to its end. There are many ways to fail: no process comes of the fork,
// it exits, its channel closes or breaks, it is killed because it hangs, and even that may not end it.
// All of them lead to one `onGone`, after the last message.

import { type ChildProcess, fork } from 'node:child_process'
import type { Logger } from '../contracts/logger.ts'
import { withHugePages } from './huge-pages.ts'
import type { CallName, FromEngine, ToEngine } from './protocol.ts'
import { createPulseReader, type Pulse, pulsePipe } from './pulse.ts'

// Built from this file's own suffix: tsc rewrites imports but not URLs.
const entry = new URL(`../engine/process${import.meta.url.slice(-3)}`, import.meta.url)

export type ForkEngine = () => ChildProcess

/** `file`: what runs in the process. `execPath`: the Node that runs it. */
export function forkEngine(file = entry, execPath = process.execPath): ChildProcess {
  const stdio = ['inherit', 'inherit', 'inherit', 'ipc', 'pipe'] as const
  const env = withHugePages(process.env)
  return fork(file, { serialization: 'advanced', stdio: [...stdio], env, execPath })
}

/** How it ended: `unstarted` where there never was a process. */
export interface Ending {
  readonly kind: 'unstarted' | 'ended'
  /** Signal, exit code or error. */
  readonly how: string
}

export interface ChildEngineOptions {
  readonly fork: ForkEngine
  readonly logger: Logger
  readonly onMessage: (message: FromEngine) => void
  readonly onPulse: (pulse: Pulse) => void
  /** Called once, never before `startChildEngine` returns. */
  readonly onGone: (ending: Ending) => void
  /** A process that does not end within this after SIGKILL, as in a driver's call, is given up. */
  readonly killMs: number
}

export interface ChildEngine {
  readonly pid: number | undefined
  readonly isGone: boolean
  /** False where the message cannot be sent at all. After its end it goes nowhere. */
  send<Name extends CallName>(message: ToEngine<Name>): boolean
  /** Asks it to end. */
  disconnect(): void
  kill(): void
}

export function startChildEngine(options: ChildEngineOptions): ChildEngine {
  const { logger, onMessage, onPulse, onGone, killMs } = options
  let child: ChildProcess | undefined
  let isGone = false
  let isAskedToEnd = false
  let deadline: NodeJS.Timeout | undefined

  function end(ending: Ending): void {
    if (isGone) return
    isGone = true
    clearTimeout(deadline)
    onGone(ending)
  }

  function endWithin(ms: number, how: string): void {
    deadline ??= setTimeout(() => end({ kind: 'ended', how }), ms)
  }

  function kill(): void {
    child?.kill('SIGKILL')
    if (!isGone) endWithin(killMs, 'not ended by SIGKILL')
  }

  /** What cannot be repaired: the process ends, and 'exit' follows. */
  function giveUp(what: string, error: unknown): void {
    if (isGone) return
    logger.error({ error: messageOf(error) }, what)
    kill()
  }

  function hear(pulse: Pulse): void {
    if (!isGone) onPulse(pulse)
  }

  function listen(started: ChildProcess): void {
    started.on('message', (message: FromEngine) => {
      if (isGone) return
      try {
        onMessage(message)
      } catch (error) {
        giveUp('engine process: a message could not be read', error)
      }
    })
    // One that never ran has no exit: its error is its end.
    started.on('error', (error) => {
      if (started.pid === undefined) end({ kind: 'unstarted', how: error.message })
      else giveUp('engine process', error)
    })
    started.once('exit', (code, signal) => {
      const how = `${signal ?? code}`
      // Its last messages may come after 'exit'; they come before 'disconnect'.
      if (!started.connected) return end({ kind: 'ended', how })
      started.once('disconnect', () => end({ kind: 'ended', how }))
      endWithin(killMs, how)
    })
    // Nobody can reach it any more, and it may not notice.
    started.on('disconnect', () => {
      if (!isAskedToEnd) kill()
    })
    const pipe = started.stdio?.[pulsePipe]
    pipe?.on('error', () => {}) // Its silence says it.
    if (pipe && 'read' in pipe) pipe.on('data', createPulseReader(hear))
  }

  try {
    child = options.fork()
    listen(child)
  } catch (error) {
    setImmediate(() => end({ kind: 'unstarted', how: messageOf(error) }))
  }

  return {
    get pid() {
      return child?.pid
    },
    get isGone() {
      return isGone
    },
    send(message) {
      if (isGone || !child?.connected) return true
      try {
        // To a process that has just died: 'exit' follows.
        child.send(message, (error) => {
          if (error !== null) giveUp('engine process: a message could not be sent', error)
        })
        return true
      } catch (error) {
        logger.error({ error: messageOf(error) }, 'a message for the engine cannot be copied')
        return false
      }
    },
    disconnect() {
      isAskedToEnd = true
      if (child?.connected) child.disconnect()
    },
    kill,
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
