// The engine's child process: forked, watched, and started again with a growing delay when it crashes or
// hangs. What its messages mean is the client's business.
//
//   loading ── ready ──┬── restarting ── ready …      (crashed, or killed because it hung)
//      │               └── stopped                    (stop)
//      └── stopped                                    (it never got ready: it would fail again)

import { type ChildProcess, fork } from 'node:child_process'
import type { EngineOptions, EngineState } from '../contracts/engine.ts'
import type { Logger } from '../contracts/logger.ts'
import type { Observer } from '../contracts/observer.ts'
import { createDeferred } from './deferred.ts'
import { withHugePages } from './huge-pages.ts'
import type { CallName, FromEngine, ToEngine } from './protocol.ts'

// Built from this file's own suffix: tsc rewrites imports but not URLs.
const entry = new URL(`../engine/process${import.meta.url.slice(-3)}`, import.meta.url)

/** A process that is asked to end is killed after this. */
const endMs = 5_000

/** When an engine counts as stuck, and how fast it is started again. */
export interface EngineLimits {
  /** Longest silence; its heart beats every second. */
  readonly silenceMs: number
  /** Longest step; those of large models take seconds. */
  readonly stepMs: number
  readonly watchIntervalMs: number
  readonly firstBackoffMs: number
  readonly maxBackoffMs: number
  /** The backoff starts anew after so long without a failure. */
  readonly healthyAfterMs: number
}

const defaultLimits: EngineLimits = {
  silenceMs: 30_000,
  stepMs: 300_000,
  watchIntervalMs: 5_000,
  firstBackoffMs: 200,
  maxBackoffMs: 30_000,
  healthyAfterMs: 60_000,
}

export interface EngineProcessOptions {
  readonly options: EngineOptions
  readonly observer: Pick<Observer, 'engineState' | 'engineRestarted'>
  readonly logger: Logger
  readonly limits: Partial<EngineLimits>
  readonly onMessage: (message: FromEngine) => void
  /** The process is gone. Called each time, before a new one is started. */
  readonly onGone: () => void
  /** It went before it was ready, and is not started again. `how`: its signal or exit code. */
  readonly onFailedStart: (how: string) => void
}

export interface EngineProcess {
  readonly state: EngineState
  readonly restarts: number
  /** Of the process of the moment. */
  readonly pid: number | undefined
  send<Name extends CallName>(message: ToEngine<Name>): void
  /** The engine has said that it is ready. */
  markReady(): void
  /** A heartbeat came, with what the step under way has taken. */
  checkStep(stepMs: number | null): void
  /** No process is started any more. False: it has ended by itself, or somebody else is ending it. */
  stop(): boolean
  /** Ends the process; resolves when it is gone. */
  end(): Promise<void>
  /** Resolves when the process is gone, without ending it. */
  gone(): Promise<void>
}

export function createEngineProcess(given: EngineProcessOptions): EngineProcess {
  const { options, observer, logger, onMessage, onGone, onFailedStart } = given
  const limits = { ...defaultLimits, ...given.limits }
  let state: EngineState = 'loading'
  let child: ChildProcess
  let whenGone = createDeferred<void>()
  let hasBeenReady = false
  let lastHeard = performance.now()
  let readySince = 0
  let isHung = false
  let restarts = 0
  let failuresInARow = 0
  let restartTimer: NodeJS.Timeout | undefined

  function setState(next: EngineState): void {
    state = next
    observer.engineState(next)
  }

  function send<Name extends CallName>(message: ToEngine<Name>): void {
    if (child.connected) child.send(message)
  }

  function start(): void {
    isHung = false
    lastHeard = performance.now()
    whenGone = createDeferred<void>()
    child = fork(entry, { serialization: 'advanced', env: withHugePages(process.env) })
    child.on('message', (message: FromEngine) => {
      lastHeard = performance.now()
      onMessage(message)
    })
    const started = child
    started.once('exit', (code, signal) => {
      // Its last messages may come after 'exit'; they come before 'disconnect'.
      if (started.connected) started.once('disconnect', () => onExit(code, signal))
      else onExit(code, signal)
    })
    // Each message to a process that has just died is an error of its own.
    child.on('error', (error) => logger.error({ error: error.message }, 'engine process'))
    send({ kind: 'start', options })
  }

  function onExit(code: number | null, signal: NodeJS.Signals | null): void {
    onGone()
    whenGone.resolve()
    if (state === 'stopped') return
    logger.error({ code, signal }, 'engine process ended')
    if (hasBeenReady) restart()
    else {
      onFailedStart(`${signal ?? code}`)
      setState('stopped')
    }
  }

  function restart(): void {
    restarts++
    observer.engineRestarted(isHung ? 'hung' : 'crashed')
    if (performance.now() - readySince > limits.healthyAfterMs) failuresInARow = 0
    const backoffMs = Math.min(limits.firstBackoffMs * 2 ** failuresInARow++, limits.maxBackoffMs)
    setState('restarting')
    restartTimer = setTimeout(start, backoffMs)
  }

  function killHung(why: string): void {
    logger.error({ why }, 'engine is stuck: killing it')
    isHung = true
    child.kill('SIGKILL')
  }

  function isGone(): boolean {
    return child.pid === undefined || child.exitCode !== null || child.signalCode !== null
  }

  const watchdog = setInterval(() => {
    const silentMs = performance.now() - lastHeard
    // Also while it ends: running requests wait for it.
    const shallSpeak = state === 'ready' || (state === 'stopped' && hasBeenReady)
    if (shallSpeak && silentMs > limits.silenceMs) killHung(`silent for ${silentMs} ms`)
  }, limits.watchIntervalMs)
  watchdog.unref()
  setState('loading')
  start()

  return {
    get state() {
      return state
    },
    get restarts() {
      return restarts
    },
    get pid() {
      return child.pid
    },
    send,

    markReady() {
      hasBeenReady = true
      readySince = performance.now()
      setState('ready')
    },

    checkStep(stepMs) {
      if ((stepMs ?? 0) > limits.stepMs) killHung('a step took too long')
    },

    stop() {
      clearTimeout(restartTimer)
      if (state === 'stopped' && !child.connected) return false
      setState('stopped')
      return true
    },

    async end() {
      clearInterval(watchdog)
      if (isGone()) return
      if (child.connected) child.disconnect()
      const deadline = setTimeout(() => child.kill('SIGKILL'), endMs)
      await whenGone.promise
      clearTimeout(deadline)
    },

    async gone() {
      clearInterval(watchdog)
      if (!isGone()) await whenGone.promise
    },
  }
}
