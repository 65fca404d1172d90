// The engine's heart: schedule, run, sample, publish, over and over while there is work.
// Every request that was submitted ends in exactly one terminal event (jobs.ts).

import type { EngineStats } from '../contracts/engine.ts'
import type { GenerationEvent } from '../contracts/generation.ts'
import { createExecutor } from './executor.ts'
import type { IdleTimer } from './idle-timer.ts'
import { createJobs, type Job } from './jobs.ts'
import { createKvManager } from './kv-manager.ts'
import type { KvLimits } from './kv-shape.ts'
import { createPrefillBudget } from './prefill-budget.ts'
import { blockTokens, type SavedBlock } from './prefix-cache.ts'
import type { RowMove } from './rows.ts'
import { createScheduler, type Step } from './scheduler.ts'
import type { Sequence } from './sequence.ts'
import type { StepRunner } from './step-runner.ts'

export interface LoopOptions<Saved extends SavedBlock> {
  readonly runner: StepRunner<Saved>
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
    emit: (id, event) => outbox.push([id, event]),
    remove: (sequence) => moveRows(scheduler.remove(sequence)),
    now,
  })
  const executor = createExecutor({ runner, scheduler, kvManager, jobs, prefillBudget, vocabSize })
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
      executor.collect(batch, logits, now() - startedAt) // sample, detokenise, finish
    } catch (error) {
      jobs.failStep(batch.kind === 'decode' ? batch.sequences : [batch.sequence], error)
    }
    return true
  }

  function schedule(): Step | null {
    jobs.endCancelled()
    makeRoom()
    makeWay()
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

  // ---- Rows of the KV cache ----

  function moveRows(moves: readonly RowMove[]): void {
    for (const { from, to, length } of moves) runner.copyRow(from, to, 0, length)
  }

  /** Room for the next token of every row: where there is none, the youngest is preempted. */
  function makeRoom(): void {
    while (!kvManager.tryHold(scheduler.running())) {
      const sequence = scheduler.youngest()
      if (sequence === undefined) return
      moveRows(scheduler.preempt(sequence))
      takeRow(sequence)
    }
  }

  /** A row for who waits and is in turn, from one that had more than its share. */
  function makeWay(): void {
    const sequence = scheduler.yielding()
    if (sequence === undefined) return
    moveRows(scheduler.giveWay(sequence))
    takeRow(sequence)
  }

  /** Its keys and values are computed again later. */
  function takeRow(sequence: Sequence): void {
    kvManager.forget(sequence)
    sequence.preempt()
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
    stats(residentAdapters: number): EngineStats {
      const running = scheduler.running()
      return {
        running: running.length,
        waiting: scheduler.numWaiting,
        kvUsage: kvManager.usage(running),
        runningAdapters: jobs.adaptersOf(running),
        waitingAdapters: waitingAdapters(),
        residentAdapters,
      }
    },
  }
}
