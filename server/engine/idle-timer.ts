// What is done when nothing has happened for a while.

import type { IdleTimer } from '../loop/loop.ts'

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
