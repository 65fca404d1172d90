// Watches an upstream: what does not answer is asked no more, and what answers again is checked as at the
// start before it serves.

import { UpstreamFailure } from './failure.ts'

export interface HealthOptions {
  /** Rejects where it is not healthy. */
  readonly ask: (signal: AbortSignal) => Promise<unknown>
  /** The checks of the start; rejects where it is another than it was. */
  readonly check: () => Promise<void>
  readonly onDown: () => void
  readonly onUp: () => void
  readonly onNotice: (message: string) => void
  readonly isUp: boolean
  /** Between two questions, and how long one may take. */
  readonly intervalMs: number
  readonly timeoutMs: number
}

/** Slow answers in a row that count as none: an event loop under load is no outage. */
const mostTimeouts = 3

export interface Health {
  /** Asks once; the interval asks by itself. */
  beat(): Promise<void>
  stop(): void
}

export function watchHealth(options: HealthOptions): Health {
  const { ask, check, onDown, onUp, onNotice, intervalMs, timeoutMs } = options
  let { isUp } = options
  let numTimeouts = 0
  let lastNotice = ''
  let isStopped = false
  let timer: NodeJS.Timeout | undefined

  function notice(message: string): void {
    if (message !== lastNotice) onNotice(message)
    lastNotice = message
  }

  /** null: nothing. */
  async function findFault(): Promise<string | null> {
    const signal = AbortSignal.timeout(timeoutMs)
    try {
      await ask(signal)
      numTimeouts = 0
      return null
    } catch (error) {
      if (signal.aborted && isUp && ++numTimeouts < mostTimeouts) return null
      if (!signal.aborted && !(error instanceof UpstreamFailure)) console.error(error)
      return signal.aborted ? 'too slow' : (error as Error).message
    }
  }

  async function beat(): Promise<void> {
    const fault = await findFault()
    if (isStopped || (fault === null) === isUp) return
    if (fault !== null) {
      isUp = false
      numTimeouts = 0
      onDown()
      return notice(`it does not answer; no request goes there (${fault})`)
    }
    try {
      await check()
      if (isStopped) return
      isUp = true
      onUp()
      notice('it serves again')
    } catch (error) {
      notice(`it answers again and is not used: ${(error as Error).message}`)
    }
  }

  async function run(): Promise<void> {
    await beat()
    if (!isStopped) timer = setTimeout(run, intervalMs).unref()
  }

  timer = setTimeout(run, intervalMs).unref()
  return {
    beat,
    stop() {
      isStopped = true
      clearTimeout(timer)
    },
  }
}
