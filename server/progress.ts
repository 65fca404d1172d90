// How far a long piece of work is: a bar with an ETA on a terminal, plain log lines elsewhere.

import type { Logger } from './contracts/logger.ts'

export interface ProgressOptions {
  readonly terminal: { readonly isTTY?: boolean; write(text: string): unknown }
  readonly logger: Logger
  /** Monotonic milliseconds. */
  readonly now: () => number
}

export type ReportProgress = (what: string, done: number, total: number) => void

const barWidth = 30
/** Elsewhere than on a terminal a line for every tenth is enough. */
const linesPerWork = 10

export function createProgress({ terminal, logger, now }: ProgressOptions): ReportProgress {
  let work: { what: string; startedAt: number; firstDone: number; lastTenth: number } | undefined
  return function report(what, done, total) {
    if (work?.what !== what) {
      work = { what, startedAt: now(), firstDone: done, lastTenth: 0 }
    }
    const share = done / total
    const seconds = (now() - work.startedAt) / 1000
    // Bytes that were there before the work began are no measure of its speed.
    const newlyDone = done - work.firstDone
    const left = newlyDone > 0 ? Math.round((seconds * (total - done)) / newlyDone) : 0
    const percent = `${Math.floor(share * 100)} %`
    if (terminal.isTTY) {
      const filled = Math.floor(share * barWidth)
      const bar = '█'.repeat(filled) + '·'.repeat(barWidth - filled)
      const end = done === total ? '\n' : ''
      terminal.write(`\r${what} ${bar} ${percent}, ${left} s left \u001b[K${end}`)
    } else {
      const tenth = Math.floor(share * linesPerWork)
      if (tenth === work.lastTenth) return
      work.lastTenth = tenth
      logger.info({ done, total, seconds: Math.round(seconds), left }, `${what}: ${percent}`)
    }
  }
}
