// What is done when nothing has happened for a while.

export interface IdleTimer {
  /** Does the task after the time, unless stopped before. */
  start(task: () => void): void
  stop(): void
}

export function createIdleTimer(idleMs: number): IdleTimer {
  let timer: NodeJS.Timeout | undefined
  return {
    start(task) {
      clearTimeout(timer)
      timer = setTimeout(task, idleMs)
      timer.unref()
    },
    stop: () => clearTimeout(timer),
  }
}
