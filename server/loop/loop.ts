// The engine's heart: schedule, run, sample, publish, over and over while there is work.
// Every request that was submitted ends in exactly one terminal event (jobs.ts).

import type { EngineStats } from '../contracts/engine.ts'
import type { GenerationEvent } from '../contracts/generation.ts'
import type { ErrorBody } from '../errors.ts'
import { NonFiniteLogitsError } from '../sampling/sampler.ts'
import type { IdleTimer } from './idle-timer.ts'
import { createJobs, type Job } from './jobs.ts'
import { createKvManager } from './kv-manager.ts'
import type { KvLimits } from './kv-shape.ts'
import { createPrefillBudget } from './prefill-budget.ts'
import { blockTokens, type SavedBlock } from './prefix-cache.ts'
import {
  type CopyStep,
  createScheduler,
  type DecodeStep,
  type PrefillStep,
  type RowMove,
  type Step,
} from './scheduler.ts'
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

const noLogits = new Float32Array()

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
  let isRunning = false
  let stepStartedAt: number | null = null

  // ---- One step: schedule, run, publish, sample ----

  /** False when there is nothing to do. */
  async function step(): Promise<boolean> {
    const batch = schedule() // a copy, a chunk of a prompt, or the next token of every row
    if (batch === null) return false
    stepStartedAt = now()
    try {
      const running = run(batch) // on other threads
      publish() // what the step before gave goes out while this one computes
      collect(batch, await running) // sample, detokenise, finish
    } catch (error) {
      jobs.failStep(batch.kind === 'decode' ? batch.sequences : [batch.sequence], error)
    }
    stepStartedAt = null
    return true
  }

  function schedule(): Step | null {
    jobs.endCancelled()
    makeRoom()
    return scheduler.schedule()
  }

  function run(batch: Step): Promise<Float32Array> {
    switch (batch.kind) {
      case 'copy':
        return copy(batch)
      case 'prefill':
        return prefill(batch)
      case 'decode':
        return decode(batch)
    }
  }

  function publish(): void {
    if (outbox.length === 0) return
    const events = outbox
    outbox = []
    options.publish(events)
  }

  function collect(batch: Step, logits: Float32Array): void {
    if (batch.kind === 'prefill') collectPrompt(batch, logits)
    if (batch.kind === 'decode') collectTokens(batch, logits)
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
      kvManager.forget(sequence)
      sequence.preempt()
    }
  }

  // ---- What a step runs ----

  async function copy({ sequence, row, hit }: CopyStep): Promise<Float32Array> {
    jobs.markFirstStep(sequence)
    hit.copyTo(row)
    sequence.reuse(hit.to)
    return noLogits
  }

  function prefill({ sequence, row, from, to }: PrefillStep): Promise<Float32Array> {
    jobs.markFirstStep(sequence)
    const { promptTokens, components, needsPromptLogits } = sequence
    const tokens = promptTokens.slice(from, to)
    const numLogits = needsPromptLogits ? tokens.length : 1
    return runner.prefill({ row, tokens, past: from, components, numLogits })
  }

  function decode({ sequences }: DecodeStep): Promise<Float32Array> {
    const batch = sequences.map((sequence) => ({
      token: sequence.tokenAt(sequence.numComputed),
      past: sequence.numComputed,
      components: sequence.components,
    }))
    return runner.decode(batch)
  }

  // ---- What its logits give ----

  function collectPrompt({ sequence, row, from, to }: PrefillStep, logits: Float32Array): void {
    prefillBudget.observe(to - from, now() - (stepStartedAt ?? 0))
    const last = sequence.needsPromptLogits ? to - from - 1 : 0
    if (sequence.needsPromptLogits) {
      for (let i = 0; i <= last; i++) sequence.acceptPromptLogits(from + i, logitsAt(logits, i))
    }
    sequence.advance(to)
    if (to < sequence.promptTokens.length) {
      // What is not a number is not worth keeping; the prompt's last chunk will tell of it.
      if (!Number.isNaN(logits[0])) kvManager.save(sequence, row)
      return
    }
    scheduler.finishPrefill()
    // One that was preempted after its first token says nothing until it has computed its own again.
    if (sequence.isRecomputing) return
    jobs.markFirstToken(sequence)
    accept(sequence, () => {
      const events = sequence.finishPrompt()
      if (sequence.isFinished) return events
      return [...events, ...sequence.accept(logitsAt(logits, last), blockMaxAt(last))]
    })
  }

  function collectTokens({ sequences }: DecodeStep, logits: Float32Array): void {
    for (const sequence of sequences) sequence.advance(sequence.numComputed + 1)
    for (const [row, sequence] of sequences.entries()) {
      accept(sequence, () => {
        if (sequence.isRecomputing) return []
        return sequence.accept(logitsAt(logits, row), blockMaxAt(row))
      })
    }
  }

  /** What a sequence makes of its logits; a row without numbers fails its own request only. */
  function accept(sequence: Sequence, toEvents: () => readonly GenerationEvent[]): void {
    if (!jobs.has(sequence)) return
    try {
      jobs.tell(sequence, toEvents())
    } catch (error) {
      if (!(error instanceof NonFiniteLogitsError)) throw error
      const body = { code: 'numerical_error', message: `Generation stopped: ${error.message}.` }
      jobs.fail(sequence, body as ErrorBody)
      return
    }
    kvManager.save(sequence, scheduler.running().indexOf(sequence))
    if (sequence.isFinished) jobs.finishChoice(sequence)
  }

  /** The logits [vocab] of one position of a run. */
  function logitsAt(logits: Float32Array, position: number): Float32Array {
    return logits.subarray(position * vocabSize, (position + 1) * vocabSize)
  }

  function blockMaxAt(position: number): Float32Array | null {
    const { blockMax, numBlocks } = runner
    return blockMax?.subarray(position * numBlocks, (position + 1) * numBlocks) ?? null
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
    /** How long the step under way has taken, in ms; null when idle. */
    get stepMs(): number | null {
      return stepStartedAt === null ? null : now() - stepStartedAt
    },
    stats(residentAdapters: number): EngineStats {
      const running = scheduler.running()
      return {
        running: running.length,
        waiting: scheduler.numWaiting,
        kvUsage: kvManager.usage(running),
        runningAdapters: jobs.adaptersOf(running),
        waitingAdapters: jobs.adaptersOf(scheduler.waiting()),
        residentAdapters,
      }
    },
  }
}
