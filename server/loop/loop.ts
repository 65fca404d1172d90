// The engine's heart: schedule, run, sample, publish, over and over while there is work.
// Every request that was submitted ends in exactly one terminal event (jobs.ts).

import type { LoopStats } from '../contracts/engine.ts'
import type { GenerationEvent } from '../contracts/generation.ts'
import type { LoadedGuard } from '../safety/guard.ts'
import { createExecutor } from './executor.ts'
import { createJobs, type Job } from './jobs.ts'
import { createKvManager } from './kv-manager.ts'
import type { KvLimits } from './kv-shape.ts'
import { createPrefillBudget } from './prefill-budget.ts'
import { blockTokens, type SavedBlock } from './prefix-cache.ts'
import { createReadings } from './readings.ts'
import { createRowKeeper } from './rows.ts'
import { createScheduler, type Step } from './scheduler.ts'
import type { StepRunner } from './step-runner.ts'

export interface LoopOptions<Saved extends SavedBlock> {
  readonly runner: StepRunner<Saved>
  /** Who judges what is to be judged; the sequences come with the same. */
  readonly guard: LoadedGuard | null
  readonly limits: KvLimits
  readonly vocabSize: number
  readonly maxChunk: number
  /** Longest pause that a prompt may put between two tokens of a running stream. */
  readonly targetGapMs: number
  readonly publish: (events: ReadonlyArray<readonly [string, GenerationEvent]>) => void
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** Before a cache that is idle gives memory back: getting it again costs the next request time. */
  readonly idle: IdleTimer
}

export interface IdleTimer {
  /** Does the task after some time, unless stopped before. */
  start(task: () => void): void
  stop(): void
}

/** Bytes of KV cache that are copied between two steps; some milliseconds. */
const maxCopyBytes = 64 << 20
/** Bytes of logits that one run gives when those of a whole prompt are wanted. */
const maxLogitBytes = 32 << 20

export type Loop = ReturnType<typeof createLoop>

export function createLoop<Saved extends SavedBlock>(options: LoopOptions<Saved>) {
  const { runner, limits, vocabSize, maxChunk, targetGapMs, now, idle } = options
  const maxCopy = blockTokens * Math.ceil(maxCopyBytes / runner.positionBytes / blockTokens)
  const kvManager = createKvManager({ runner, limits, maxCopy })
  const prefillBudget = createPrefillBudget({ maxChunk, targetMs: targetGapMs })
  const scheduler = createScheduler({
    rows: limits.maxRows,
    maxChunk,
    maxLogitsChunk: Math.max(2, Math.floor(maxLogitBytes / (4 * vocabSize))),
    maxCopy,
    prefillBudget: () => prefillBudget.tokens,
    tryAdmit: kvManager.tryAdmit,
    match: kvManager.match,
  })
  let outbox: Array<readonly [string, GenerationEvent]> = []
  const jobs = createJobs({
    emit: (id, event) => {
      if (!readings.takes(id, event)) outbox.push([id, event])
    },
    remove: (sequence) => rowKeeper.move(scheduler.remove(sequence)),
    now,
  })
  const readings = createReadings({
    begin(reading) {
      const { id } = reading.request
      jobs.add({ id, sequences: [reading], adapterIds: [], release: () => {} })
      scheduler.add(reading)
    },
    cancel: jobs.cancel,
    give(sequence, logits) {
      executor.giveVerdict(sequence, logits)
      if (jobs.has(sequence)) readings.beginFor(sequence)
    },
  })
  const rowKeeper = createRowKeeper({ runner, scheduler, kvManager, readings })
  const executor = createExecutor({
    runner,
    guard: options.guard,
    scheduler,
    kvManager,
    jobs,
    prefillBudget,
    vocabSize,
    restart: rowKeeper.giveUp,
    readings,
  })
  let isRunning = false
  let waitingKnown: { version: number; adapters: readonly string[] } = { version: 0, adapters: [] }

  // ---- One step: schedule, run, publish, sample ----

  /** False when there is nothing to do. */
  async function step(): Promise<boolean> {
    const batch = schedule() // a copy, a chunk of a prompt, or the next token of every row
    if (batch === null) return false
    const startedAt = now()
    try {
      const running = executor.run(batch) // on other threads
      publish() // what the step before gave goes out while this one computes
      const logits = await running
      const ms = now() - startedAt
      const missing = executor.missing(batch)
      if (missing.length > 0) await executor.waitFor(missing, batch)
      executor.collect(batch, logits, ms) // sample, detokenise, finish
    } catch (error) {
      jobs.failStep('sequences' in batch ? batch.sequences : [batch.sequence], error)
    }
    return true
  }

  function schedule(): Step | null {
    jobs.endCancelled()
    if (options.guard?.isExact) rowKeeper.readAnew()
    rowKeeper.makeRoom()
    rowKeeper.makeWay()
    return scheduler.schedule()
  }

  function publish(): void {
    if (outbox.length === 0) return
    const events = outbox
    outbox = []
    options.publish(events)
  }

  async function runUntilIdle(): Promise<void> {
    isRunning = true
    idle.stop()
    while (await step());
    idle.start(kvManager.shrink)
    publish()
    isRunning = false
  }

  /** Looked up again only where another sequence waits: there may be thousands. */
  function waitingAdapters(): readonly string[] {
    if (waitingKnown.version !== scheduler.waitingVersion) {
      const adapters = jobs.adaptersOf(scheduler.waiting())
      waitingKnown = { version: scheduler.waitingVersion, adapters }
    }
    return waitingKnown.adapters
  }

  function wake(): void {
    if (!isRunning) void runUntilIdle()
  }

  return {
    submit(job: Job): void {
      jobs.add(job)
      for (const sequence of job.sequences) scheduler.add(sequence)
      wake()
    },
    /** Takes effect between two steps; unknown ids are ignored. */
    cancel(id: string): void {
      if (jobs.cancel(id)) wake()
    },
    stats(): LoopStats {
      const running = scheduler.running()
      return {
        running: running.length,
        waiting: scheduler.numWaiting,
        kvUsage: kvManager.usage(running),
        runningAdapters: jobs.adaptersOf(running),
        waitingAdapters: waitingAdapters(),
      }
    },
  }
}
