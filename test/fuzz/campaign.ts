// Batches one after the other in a thread, watched from outside it: a thread that begins no new input
// for too long hangs, and one that takes too much memory is ended. Each failure has its seed.

import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import * as fc from 'fast-check'
import type { BatchOrder, BatchReport, BatchThreadData } from './batch-thread.ts'
import { batchSize, targetOf } from './plan.ts'

export interface CampaignOptions {
  readonly seed: number
  readonly count: number
  /** Names of targets; none: all. */
  readonly targets: readonly string[]
  /** Longest time without a new input. Opening a target, a server's start included, counts. */
  readonly hangMs?: number
  readonly onBatch?: (done: number, seed: number) => void
}

export interface Failure {
  readonly target: string
  readonly seed: number
  readonly input: string
  readonly error: string
}

export interface Outcome {
  readonly numInputs: number
  readonly failures: readonly Failure[]
  /** Where another run goes on. */
  readonly nextSeed: number
}

const mostFailures = 10
const mostMemory = 3_000_000_000

export async function runCampaign(options: CampaignOptions): Promise<Outcome> {
  const { targets, hangMs = 90_000, onBatch } = options
  const progress = new Int32Array(new SharedArrayBuffer(4))
  const failures: Failure[] = []
  let seed = options.seed
  let done = 0
  let thread = startThread({ progress, targets })
  try {
    while (done < options.count && failures.length < mostFailures) {
      const count = Math.min(batchSize, options.count - done)
      const begun = progress[0]!
      const report = await runBatch(thread, { seed, count }, progress, hangMs)
      if (report.kind === 'failed') {
        failures.push({ target: targetOf(seed, targets).name, ...report })
      }
      if (report.kind === 'lost') {
        await thread.terminate()
        thread = startThread({ progress, targets })
        const input = inputOf({ seed, targets, position: progress[0]! - begun })
        failures.push({ target: targetOf(seed, targets).name, seed, input, error: report.why })
      }
      done += count
      seed++
      onBatch?.(done, seed)
    }
  } finally {
    await thread.terminate()
  }
  return { numInputs: done, failures, nextSeed: seed }
}

function startThread(workerData: BatchThreadData): Worker {
  // ".ts" where Node strips types, ".js" where it was compiled.
  const url = new URL(`./batch-thread${extname(import.meta.url)}`, import.meta.url)
  return new Worker(url, { workerData, resourceLimits: { maxOldGenerationSizeMb: 1024 } })
}

type Result = BatchReport | { readonly kind: 'lost'; readonly why: string }

function runBatch(
  thread: Worker,
  order: BatchOrder,
  progress: Int32Array,
  hangMs: number,
): Promise<Result> {
  return new Promise((resolve) => {
    let seen = -1
    let since = performance.now()
    const watch = setInterval(look, 250)

    function look(): void {
      const now = performance.now()
      if (progress[0] !== seen) {
        seen = progress[0]!
        since = now
      }
      if (now - since > hangMs) settle({ kind: 'lost', why: `no end within ${hangMs} ms` })
      const { rss } = process.memoryUsage()
      if (rss > mostMemory) settle({ kind: 'lost', why: `${rss} bytes of memory` })
    }

    function settle(result: Result): void {
      clearInterval(watch)
      thread.off('message', settle).off('error', fail).off('exit', leave)
      resolve(result)
    }

    function fail(error: Error): void {
      settle({ kind: 'lost', why: `the thread ended: ${error.stack}` })
    }

    function leave(code: number): void {
      settle({ kind: 'lost', why: `the thread ended with ${code}` })
    }

    thread.on('message', settle).on('error', fail).on('exit', leave)
    thread.postMessage(order)
    look()
  })
}

/** The input at a position of a batch, as the thread was given it. */
function inputOf(at: { seed: number; targets: readonly string[]; position: number }): string {
  if (at.position === 0) return '(opening the target)'
  const { inputs } = targetOf(at.seed, at.targets)
  return fc.stringify(fc.sample(inputs, { seed: at.seed, numRuns: at.position }).at(-1))
}
