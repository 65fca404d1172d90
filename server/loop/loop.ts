// The engine's heart: schedule, run, sample, publish, over and over while there is work.
// Every request that was submitted ends in exactly one terminal event.

import type { EngineStats } from '../contracts/engine.ts'
import type { GenerationEvent } from '../contracts/generation.ts'
import { type ErrorBody, ServerError } from '../errors.ts'
import { NonFiniteLogitsError } from '../sampling/sampler.ts'
import type { IdleTimer } from './idle-timer.ts'
import { createKvManager } from './kv-manager.ts'
import type { KvLimits } from './kv-shape.ts'
import { createPrefillBudget } from './prefill-budget.ts'
import { blockTokens, type SavedBlock } from './prefix-cache.ts'
import { chunkEnd, createScheduler, type RowMove, type Step } from './scheduler.ts'
import type { Sequence } from './sequence.ts'
import type { StepRunner } from './step-runner.ts'

/** A request that is ready to run: tokenised, its adapters resident and held. */
export interface Job {
  readonly id: string
  readonly sequences: readonly Sequence[]
  readonly adapterIds: readonly string[]
  /** Lets go of the adapters; called once, when the job ends. */
  readonly release: () => void
}

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

type PrefillStep = Extract<Step, { kind: 'prefill' }>

interface RunningJob extends Job {
  readonly submittedAt: number
  firstStepAt: number | undefined
  firstTokenAt: number | undefined
  numUnfinished: number
}

export type Loop = ReturnType<typeof createLoop>

export function createLoop<Saved extends SavedBlock>(options: LoopOptions<Saved>) {
  const { runner, limits, vocabSize, maxChunk, targetGapMs, publish, now, idle } = options
  const maxCopy = blockTokens * Math.ceil(maxCopyBytes / runner.positionBytes / blockTokens)
  const maxPromptLogits = Math.max(2, Math.floor(maxLogitBytes / (4 * vocabSize)))
  const kvManager = createKvManager({ runner, limits, maxCopy })
  const pace = createPrefillBudget({ maxChunk, targetMs: targetGapMs })
  const scheduler = createScheduler({
    rows: limits.maxRows,
    maxChunk,
    prefillBudget: () => pace.tokens,
    mayAdmit: kvManager.mayAdmit,
  })
  const jobs = new Map<string, RunningJob>()
  const cancelled = new Set<string>()
  let outbox: Array<readonly [string, GenerationEvent]> = []
  let isRunning = false
  let stepStartedAt: number | null = null

  const emit = (id: string, event: GenerationEvent) => outbox.push([id, event])

  function flush(): void {
    if (outbox.length === 0) return
    const events = outbox
    outbox = []
    publish(events)
  }

  /** What the step before gave goes out while this one computes, not before it begins. */
  function publishing<T>(run: Promise<T>): Promise<T> {
    flush()
    return run
  }

  function moveRows(moves: readonly RowMove[]): void {
    for (const { from, to, length } of moves) runner.copyRow(from, to, 0, length)
  }

  /** Room for the next token of every row: where there is none, who came last starts again later. */
  function makeRoom(): void {
    while (!kvManager.tryHold(scheduler.running())) {
      const sequence = scheduler.youngest()
      if (sequence === undefined) return
      moveRows(scheduler.preempt(sequence))
      sequence.restart()
    }
  }

  function endJob(job: RunningJob, terminal: GenerationEvent): void {
    jobs.delete(job.id)
    cancelled.delete(job.id)
    for (const sequence of job.sequences) moveRows(scheduler.remove(sequence))
    job.release()
    emit(job.id, terminal)
  }

  function finishChoice(job: RunningJob, sequence: Sequence): void {
    moveRows(scheduler.remove(sequence))
    job.numUnfinished--
    if (job.numUnfinished > 0) return
    const end = now()
    const firstStep = job.firstStepAt ?? end
    const firstToken = job.firstTokenAt ?? end
    const timing = {
      queueMs: firstStep - job.submittedAt,
      prefillMs: firstToken - firstStep,
      decodeMs: end - firstToken,
    }
    const cachedTokens = job.sequences[0]?.numCachedTokens ?? 0
    endJob(job, { kind: 'done', timing, cachedTokens })
  }

  /** What a sequence makes of its logits; a row without numbers fails its own request only. */
  function accept(sequence: Sequence, toEvents: () => readonly GenerationEvent[]): void {
    const job = jobs.get(sequence.request.id)
    if (job === undefined) return
    try {
      for (const event of toEvents()) emit(job.id, event)
    } catch (error) {
      if (!(error instanceof NonFiniteLogitsError)) throw error
      const body = { code: 'numerical_error', message: `Generation stopped: ${error.message}.` }
      endJob(job, { kind: 'failed', error: body as ErrorBody })
      return
    }
    kvManager.save(sequence, scheduler.running().indexOf(sequence))
    if (sequence.isFinished) finishChoice(job, sequence)
  }

  function finishPrompt(
    sequence: Sequence,
    logits: Float32Array,
    blockMax: Float32Array | null,
  ): void {
    scheduler.finishPrefill()
    const job = jobs.get(sequence.request.id)
    if (job !== undefined) job.firstTokenAt ??= now()
    accept(sequence, () => {
      const events = sequence.finishPrompt()
      return sequence.isFinished ? events : [...events, ...sequence.accept(logits, blockMax)]
    })
  }

  async function prefill({ sequence, row, ...step }: PrefillStep): Promise<void> {
    const job = jobs.get(sequence.request.id)
    if (job !== undefined) job.firstStepAt ??= now()
    if (kvManager.take(sequence, row, scheduler.running())) return
    const { promptTokens, components, needsPromptLogits, numComputed: from } = sequence
    // One that had to give up its row after its first token: decode steps say the rest again.
    if (from >= promptTokens.length) return scheduler.finishPrefill()
    const size = step.to - step.from
    const most = needsPromptLogits ? Math.min(size, maxPromptLogits) : size
    const to = chunkEnd(from, promptTokens.length, most)
    const tokens = promptTokens.slice(from, to)
    const numLogits = needsPromptLogits ? tokens.length : 1
    const startedAt = now()
    const logits = await publishing(
      runner.prefill({ row, tokens, past: from, components, numLogits }),
    )
    pace.observe(tokens.length, now() - startedAt)
    sequence.numComputed = to
    if (needsPromptLogits) {
      for (let i = 0; i < numLogits; i++) sequence.acceptPromptLogits(from + i, rowOf(logits, i))
    }
    if (to < promptTokens.length) {
      // What is not a number is not worth keeping; the prompt's last chunk will tell of it.
      if (!Number.isNaN(logits[0])) kvManager.save(sequence, row)
    } else if (sequence.isRecomputing) scheduler.finishPrefill()
    else finishPrompt(sequence, rowOf(logits, numLogits - 1), blockMaxOf(numLogits - 1))
  }

  async function decode({ sequences }: Extract<Step, { kind: 'decode' }>): Promise<void> {
    const batch = sequences.map((sequence) => ({
      token: sequence.tokenAt(sequence.numComputed),
      past: sequence.numComputed,
      components: sequence.components,
    }))
    const logits = await publishing(runner.decode(batch))
    for (const sequence of sequences) sequence.numComputed++
    for (const [row, sequence] of sequences.entries()) {
      accept(sequence, () => {
        if (sequence.isRecomputing) return []
        return sequence.accept(rowOf(logits, row), blockMaxOf(row))
      })
    }
  }

  const rowOf = (logits: Float32Array, row: number): Float32Array =>
    logits.subarray(row * vocabSize, (row + 1) * vocabSize)

  function blockMaxOf(position: number): Float32Array | null {
    const { blockMax } = runner
    const numBlocks = runner.numBlocks
    return blockMax?.subarray(position * numBlocks, (position + 1) * numBlocks) ?? null
  }

  function cancelPending(): void {
    for (const id of cancelled) {
      const job = jobs.get(id)
      if (job !== undefined) endJob(job, { kind: 'cancelled' })
    }
    cancelled.clear()
  }

  /** A run that failed as a whole takes its own sequences with it; the engine goes on. */
  function failStep(step: Step, error: unknown): void {
    const sequences = step.kind === 'prefill' ? [step.sequence] : step.sequences
    const failure =
      error instanceof ServerError
        ? error
        : new ServerError('server_error', 'The model failed to compute this step.')
    for (const sequence of sequences) {
      const job = jobs.get(sequence.request.id)
      if (job !== undefined) endJob(job, { kind: 'failed', error: failure.toBody() })
    }
    if (!(error instanceof ServerError)) console.error(error)
  }

  async function runUntilIdle(): Promise<void> {
    isRunning = true
    idle.stop()
    for (;;) {
      cancelPending()
      makeRoom()
      const step = scheduler.next()
      if (step === null) break
      // Who was admitted has a row now; that it fits was seen to before.
      kvManager.tryHold(scheduler.running())
      stepStartedAt = now()
      try {
        if (step.kind === 'prefill') await prefill(step)
        else await decode(step)
      } catch (error) {
        failStep(step, error)
      }
      stepStartedAt = null
    }
    idle.start(kvManager.shrink)
    flush()
    isRunning = false
  }

  function wake(): void {
    if (!isRunning) void runUntilIdle()
  }

  return {
    submit(job: Job): void {
      jobs.set(job.id, {
        ...job,
        submittedAt: now(),
        firstStepAt: undefined,
        firstTokenAt: undefined,
        numUnfinished: job.sequences.length,
      })
      for (const sequence of job.sequences) scheduler.add(sequence)
      wake()
    },
    /** Takes effect between two steps; unknown ids are ignored. */
    cancel(id: string): void {
      if (!jobs.has(id)) return
      cancelled.add(id)
      wake()
    },
    /** How long the step under way has taken, in ms; null when idle. */
    get stepMs(): number | null {
      return stepStartedAt === null ? null : now() - stepStartedAt
    },
    stats(residentAdapters: number): EngineStats {
      const running = scheduler.running()
      const adaptersOf = (sequences: readonly Sequence[]) => [
        ...new Set(sequences.flatMap(({ request }) => jobs.get(request.id)?.adapterIds ?? [])),
      ]
      return {
        running: running.length,
        waiting: scheduler.numWaiting,
        kvUsage: kvManager.usage(running),
        runningAdapters: adaptersOf(running),
        waitingAdapters: adaptersOf(scheduler.waiting()),
        residentAdapters,
      }
    },
  }
}
