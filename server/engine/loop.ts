// The engine's heart: schedule, run, sample, publish, over and over while there is work.
// Every request that was submitted ends in exactly one terminal event.

import type { EngineStats } from '../contracts/engine.ts'
import type { GenerationEvent } from '../contracts/generation.ts'
import { type ErrorBody, ServerError } from '../errors.ts'
import { commonLength, type PrefixCache, type SavedRow } from './prefix-cache.ts'
import { NonFiniteLogitsError } from './sampler.ts'
import { chunkEnd, createScheduler, minChunk, type Step } from './scheduler.ts'
import type { Sequence } from './sequence.ts'

/** What a step needs of a model; the real one is model/runner, tests bring a scripted one. */
export interface StepRunner<Saved extends SavedRow = SavedRow> {
  prefill(input: {
    row: number
    tokens: readonly number[]
    past: number
    components: Sequence['components']
  }): Promise<Float32Array>
  decode(
    batch: ReadonlyArray<{
      token: number
      past: number
      components: Sequence['components']
    }>,
  ): Promise<Float32Array>
  copyRow(from: number, to: number, length: number): void
  savedBytes(length: number): number
  saveRow(row: number, length: number): Saved
  restoreRow(saved: Saved, row: number, length: number): void
}

/** A request that is ready to run: tokenised, its adapters resident and held. */
export interface Job {
  readonly id: string
  readonly sequences: readonly Sequence[]
  readonly adapterIds: readonly string[]
  /** Lets go of the adapters; called once, when the job ends. */
  readonly release: () => void
}

export interface LoopOptions<Saved extends SavedRow> {
  readonly runner: StepRunner<Saved>
  readonly prefixCache: PrefixCache<Saved>

  readonly rows: number
  readonly capacity: number
  readonly vocabSize: number
  readonly maxChunk: number
  readonly publish: (events: ReadonlyArray<readonly [string, GenerationEvent]>) => void
  /** Monotonic milliseconds. */
  readonly now: () => number
}

/** Shorter beginnings are not worth a copy. */
const minPrefix = 8

interface RunningJob extends Job {
  readonly submittedAt: number
  firstStepAt: number | undefined
  firstTokenAt: number | undefined
  numUnfinished: number
}

export type Loop = ReturnType<typeof createLoop>

export function createLoop<Saved extends SavedRow>(options: LoopOptions<Saved>) {
  const { runner, prefixCache, rows, capacity, vocabSize, maxChunk, publish, now } = options
  const scheduler = createScheduler({ rows, maxChunk })
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

  function removeSequence(sequence: Sequence): void {
    for (const { from, to, length } of scheduler.remove(sequence)) runner.copyRow(from, to, length)
  }

  /** What a leaving sequence has computed may be the beginning of a later prompt. */
  function keepPrefix(sequence: Sequence): void {
    const row = scheduler.running().indexOf(sequence)
    const length = sequence.numComputed
    if (row < 0 || length < minPrefix) return
    const size = runner.savedBytes(length)
    prefixCache.add(sequence.cacheKey, sequence.computedTokens(), size, () =>
      runner.saveRow(row, length),
    )
  }

  /** Takes over what a running or an earlier sequence computed for the same beginning. */
  function takePrefix(sequence: Sequence, row: number): void {
    const { cacheKey, promptTokens } = sequence
    const limit = promptTokens.length - minChunk
    let length = 0
    let copy = () => {}
    for (const [from, other] of scheduler.running().entries()) {
      if (other === sequence || other.cacheKey !== cacheKey) continue
      const common = Math.min(commonLength(other.computedTokens(), promptTokens), limit)
      if (common <= length) continue
      length = common
      copy = () => runner.copyRow(from, row, common)
    }
    const match = prefixCache.find(cacheKey, promptTokens)
    if (match !== null && Math.min(match.length, limit) > length) {
      length = Math.min(match.length, limit)
      copy = () => runner.restoreRow(match.saved, row, length)
    }
    if (length < minPrefix) return
    copy()
    sequence.numComputed = length
    sequence.numCached = length
  }

  function endJob(job: RunningJob, terminal: GenerationEvent): void {
    jobs.delete(job.id)
    cancelled.delete(job.id)
    for (const sequence of job.sequences) {
      // A failed step may have left anything in its row.
      if (terminal.kind !== 'failed') keepPrefix(sequence)
      removeSequence(sequence)
    }
    job.release()
    emit(job.id, terminal)
  }

  function finishChoice(job: RunningJob, sequence: Sequence): void {
    keepPrefix(sequence)
    removeSequence(sequence)
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
    const cachedTokens = job.sequences[0]?.numCached ?? 0
    endJob(job, { kind: 'done', timing, cachedTokens })
  }

  /** Samples one sequence's next token; a row without numbers fails its own request only. */
  function acceptLogits(sequence: Sequence, logits: Float32Array): void {
    const job = jobs.get(sequence.request.id)
    if (job === undefined) return
    try {
      job.firstTokenAt ??= now()
      for (const event of sequence.accept(logits)) emit(job.id, event)
    } catch (error) {
      if (!(error instanceof NonFiniteLogitsError)) throw error
      const body = { code: 'numerical_error', message: `Generation stopped: ${error.message}.` }
      endJob(job, { kind: 'failed', error: body as ErrorBody })
      return
    }
    if (sequence.isFinished) finishChoice(job, sequence)
  }

  async function prefill(step: Extract<Step, { kind: 'prefill' }>): Promise<void> {
    const { sequence, row } = step
    if (step.from === 0) takePrefix(sequence, row)
    const from = sequence.numComputed
    const to = chunkEnd(from, sequence.promptTokens.length, maxChunk)
    const job = jobs.get(sequence.request.id)
    if (job !== undefined) job.firstStepAt ??= now()
    const tokens = sequence.promptTokens.slice(from, to)
    const { components } = sequence
    const logits = await runner.prefill({ row, tokens, past: from, components })
    sequence.numComputed = to
    if (to < sequence.promptTokens.length) return
    scheduler.finishPrefill()
    acceptLogits(sequence, logits)
  }

  async function decode({ sequences }: Extract<Step, { kind: 'decode' }>): Promise<void> {
    const batch = sequences.map((sequence) => ({
      token: sequence.lastToken ?? 0,
      past: sequence.numComputed,
      components: sequence.components,
    }))
    const logits = await runner.decode(batch)
    for (const sequence of sequences) sequence.numComputed++
    for (const [row, sequence] of sequences.entries()) {
      acceptLogits(sequence, logits.subarray(row * vocabSize, (row + 1) * vocabSize))
    }
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
    for (;;) {
      cancelPending()
      const step = scheduler.next()
      if (step === null) break
      stepStartedAt = now()
      try {
        if (step.kind === 'prefill') await prefill(step)
        else await decode(step)
      } catch (error) {
        failStep(step, error)
      }
      stepStartedAt = null
      flush()
    }
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
      const inUse = running.reduce((sum, sequence) => sum + sequence.numComputed, 0)
      const adaptersOf = (sequences: readonly Sequence[]) => [
        ...new Set(sequences.flatMap(({ request }) => jobs.get(request.id)?.adapterIds ?? [])),
      ]
      return {
        running: running.length,
        waiting: scheduler.numWaiting,
        kvUsage: inUse / (rows * capacity),
        runningAdapters: adaptersOf(running),
        waitingAdapters: adaptersOf(scheduler.waiting()),
        residentAdapters,
      }
    },
  }
}
