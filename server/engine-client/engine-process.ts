// The engine's process, kept alive: started, watched, and started again with a growing delay whatever ended
// it. What its messages mean is the client's business.
//
//   loading ── ready ⇄ unresponsive ──┬── restarting ── ready …   (it ended, or was killed: it hung)
//      │                              └── stopped                 (stop)
//      └── stopped     (it refused its options, or failed to start several times in a row)

import type { EngineOptions, EngineState } from '../contracts/engine.ts'
import type { Logger } from '../contracts/logger.ts'
import type { Observer } from '../contracts/observer.ts'
import { ServerError } from '../errors.ts'
import {
  type ChildEngine,
  type Ending,
  type ForkEngine,
  forkEngine,
  startChildEngine,
} from './child-engine.ts'
import { createDeferred } from './deferred.ts'
import type { CallName, FromEngine, ToEngine } from './protocol.ts'
import { createVitalSigns, createWatchClock, type VitalLimits } from './vital-signs.ts'

/** When an engine counts as stuck, and how fast it is started again. */
export interface EngineLimits extends VitalLimits {
  readonly watchIntervalMs: number
  readonly firstBackoffMs: number
  readonly maxBackoffMs: number
  /** The backoff starts anew after so long without a failure. */
  readonly healthyAfterMs: number
  /** So often an engine may fail to start before it was ever ready. */
  readonly firstStarts: number
  /** A process that is asked to end is killed after this, and given up after as much again. */
  readonly endMs: number
}

const defaultLimits: EngineLimits = {
  unresponsiveMs: 3_000,
  silenceMs: 10_000,
  hangMs: 10_000,
  watchIntervalMs: 100,
  firstBackoffMs: 200,
  maxBackoffMs: 2_000,
  healthyAfterMs: 60_000,
  firstStarts: 3,
  endMs: 5_000,
}

export interface EngineProcessOptions {
  readonly options: EngineOptions
  readonly observer: Pick<Observer, 'engineState' | 'engineRestarted'>
  readonly logger: Logger
  readonly limits: Partial<EngineLimits>
  readonly fork?: ForkEngine
  readonly onMessage: (message: FromEngine) => void
  /** The process is gone. Called each time, before a new one is started. */
  readonly onGone: () => void
  /** It was never ready, and is not started again. */
  readonly onFailedStart: (error: ServerError) => void
}

export interface EngineProcess {
  readonly state: EngineState
  readonly restarts: number
  /** Of the process of the moment. */
  readonly pid: number | undefined
  /** False where the message cannot be sent to any engine. */
  send<Name extends CallName>(message: ToEngine<Name>): boolean
  /** The engine has said that it is ready. */
  markReady(): void
  /** The engine has said that it cannot start with its options. */
  markRefused(): void
  /** No process is started any more. False: it has ended by itself, or somebody else is ending it. */
  stop(): boolean
  /** Ends the process; resolves when it is gone. */
  end(): Promise<void>
  /** Resolves when the process is gone, without ending it. */
  gone(): Promise<void>
}

export function createEngineProcess(given: EngineProcessOptions): EngineProcess {
  const { options, observer, logger, fork = forkEngine, onMessage, onGone, onFailedStart } = given
  const limits = { ...defaultLimits, ...given.limits }
  const vitals = createVitalSigns(limits)
  let state: EngineState = 'loading'
  let child: ChildEngine
  let whenGone = createDeferred<void>()
  let hasBeenReady = false
  let isServing = false
  let isRefused = false
  let readySince = 0
  /** Why the process is being killed. */
  let hang: string | null = null
  let restarts = 0
  let failuresInARow = 0
  let restartTimer: NodeJS.Timeout | undefined

  function setState(next: EngineState): void {
    if (state === next && next !== 'loading') return
    state = next
    observer.engineState(next)
  }

  function start(): void {
    hang = null
    isServing = false
    vitals.restart()
    whenGone = createDeferred<void>()
    child = startChildEngine({
      fork,
      logger,
      onMessage,
      onPulse: vitals.beat,
      onGone: onEnding,
      killMs: limits.endMs,
    })
    child.send({ kind: 'start', options })
  }

  function onEnding(ending: Ending): void {
    onGone()
    whenGone.resolve()
    if (state === 'stopped') return
    const { kind, how } = ending
    logger.error({ how }, kind === 'ended' ? 'engine process ended' : 'no engine process')
    const isLast = !hasBeenReady && (isRefused || failuresInARow + 1 >= limits.firstStarts)
    if (isLast) {
      onFailedStart(startError(ending))
      setState('stopped')
    } else restart()
  }

  function restart(): void {
    restarts++
    observer.engineRestarted(hang === null ? 'crashed' : 'hung')
    if (hasBeenReady && performance.now() - readySince > limits.healthyAfterMs) failuresInARow = 0
    const backoffMs = Math.min(limits.firstBackoffMs * 2 ** failuresInARow++, limits.maxBackoffMs)
    if (hasBeenReady) setState('restarting')
    restartTimer = setTimeout(start, backoffMs)
  }

  function startError({ kind, how }: Ending): ServerError {
    const { firstStarts } = limits
    const times = firstStarts === 1 ? '1 time' : `${firstStarts} times in a row`
    if (kind === 'unstarted') {
      const remedy = 'raise the limits on processes, open files and memory'
      const message = `The engine process could not be started, ${times} (${how}): ${remedy}.`
      return new ServerError('engine_unavailable', message)
    }
    if (hang !== null) {
      const message = `The engine hung while loading, ${times}: ${hang}.`
      return new ServerError('engine_unavailable', message)
    }
    return new ServerError(
      'invalid_checkpoint',
      `The engine ended while loading, ${times} (${how}).`,
    )
  }

  function watch(elapsedMs: number): void {
    vitals.advance(elapsedMs)
    if (child.isGone || hang !== null) return
    if (isServing && state !== 'stopped') {
      const next = vitals.isResponsive(true) ? 'ready' : 'unresponsive'
      if (next !== state) logger.warn({ state: next }, 'engine')
      setState(next)
    }
    // Also while it ends: running requests wait for it.
    hang = vitals.findHang(isServing)
    if (hang === null) return
    logger.error({ why: hang }, 'engine is stuck: killing it')
    child.kill()
  }

  const elapsedMs = createWatchClock(limits.watchIntervalMs, () => performance.now())
  const watchdog = setInterval(() => watch(elapsedMs()), limits.watchIntervalMs)
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
    send: (message) => child.send(message),

    markReady() {
      if (state === 'stopped') return
      hasBeenReady = true
      isServing = true
      readySince = performance.now()
      setState('ready')
    },

    markRefused() {
      isRefused = true
    },

    stop() {
      clearTimeout(restartTimer)
      if (state === 'stopped' && child.isGone) return false
      setState('stopped')
      return true
    },

    async end() {
      clearInterval(watchdog)
      if (child.isGone) return
      child.disconnect()
      const deadline = setTimeout(child.kill, limits.endMs)
      await whenGone.promise
      clearTimeout(deadline)
    },

    async gone() {
      clearInterval(watchdog)
      if (!child.isGone) await whenGone.promise
    },
  }
}
