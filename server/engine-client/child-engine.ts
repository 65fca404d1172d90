// One engine process from its fork to its end. There are many ways to fail: no process comes of the fork,
// it exits, its pipe closes or brings what is no message, it is killed because it hangs, and even that may not end it.
// All of them lead to one `onGone`, after the last message.

import { type ChildProcess, spawn } from 'node:child_process'
import { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Logger } from '../contracts/logger.ts'
import { withHugePages } from './huge-pages.ts'
import { type MessagePipe, messagePipe, openMessagePipe } from './message-pipe.ts'
import type { CallName, FromEngine, ToEngine } from './protocol.ts'
import { createPulseReader, type Pulse, pulsePipe } from './pulse.ts'

// Built from this file's own suffix: tsc rewrites imports but not URLs.
const entry = new URL(`../engine/process${import.meta.url.slice(-3)}`, import.meta.url)

export type ForkEngine = () => ChildProcess

/** `file`: what runs in the process. `execPath`: the Node that runs it. */
export function forkEngine(file = entry, execPath = process.execPath): ChildProcess {
  const stdio = ['inherit', 'inherit', 'inherit', 'pipe', 'pipe'] as const
  const env = withHugePages(process.env)
  return spawn(execPath, [...process.execArgv, fileURLToPath(file)], { stdio: [...stdio], env })
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
  let pipe: MessagePipe | undefined
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

  function talk(stream: Duplex, onClosed: () => void): MessagePipe {
    return openMessagePipe<FromEngine>(stream, {
      onMessage: (message) => {
        if (!isGone) onMessage(message)
      },
      onBroken: (error) => giveUp('engine process: a message could not be read', error),
      onClosed,
    })
  }

  function listen(started: ChildProcess): void {
    let exit: Ending | undefined
    let isClosed = false
    const { [messagePipe]: messages, [pulsePipe]: pulses } = started.stdio ?? []
    // One that never ran has no exit: its error is its end.
    started.on('error', (error) => {
      if (started.pid === undefined) end({ kind: 'unstarted', how: error.message })
      else giveUp('engine process', error)
    })
    started.once('exit', (code, signal) => {
      exit = { kind: 'ended', how: `${signal ?? code}` }
      // Its last messages may come after 'exit'; they come before the pipe closes.
      if (isClosed) end(exit)
      else endWithin(killMs, exit.how)
    })
    function close(): void {
      isClosed = true
      if (exit !== undefined) end(exit)
      // Nobody can reach it any more, and it may not notice.
      else if (!isAskedToEnd) kill()
    }
    if (messages instanceof Duplex) pipe = talk(messages, close)
    pulses?.on('error', () => {}) // Its silence says it.
    if (pulses && 'read' in pulses) pulses.on('data', createPulseReader(hear))
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
      if (isGone || !pipe?.isOpen) return true
      try {
        // To a process that has just died: 'exit' follows.
        pipe.send(message, (error) => {
          if (error) giveUp('engine process: a message could not be sent', error)
        })
        return true
      } catch (error) {
        logger.error({ error: messageOf(error) }, 'a message for the engine cannot be copied')
        return false
      }
    },
    disconnect() {
      isAskedToEnd = true
      pipe?.end()
    },
    kill,
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
