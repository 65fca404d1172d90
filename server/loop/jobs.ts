// The requests that run: who is told what, how long each phase took, and that each request ends in
// exactly one terminal event, after which its adapters are let go.

import type { GenerationEvent } from '../contracts/generation.ts'
import { type ErrorBody, ServerError } from '../errors.ts'
import type { Sequence } from './sequence.ts'

/** A request that is ready to run: tokenised, its adapters resident and held. */
export interface Job {
  readonly id: string
  readonly sequences: readonly Sequence[]
  readonly adapterIds: readonly string[]
  /** Lets go of the adapters; called once, when the job ends. */
  readonly release: () => void
}

interface RunningJob extends Job {
  readonly submittedAt: number
  firstStepAt: number | undefined
  firstTokenAt: number | undefined
  numUnfinished: number
}

export interface JobsOptions {
  /** Told in order; one terminal event a job, the last. */
  readonly emit: (id: string, event: GenerationEvent) => void
  /** Takes a sequence from wherever it runs or waits. */
  readonly remove: (sequence: Sequence) => void
  /** Monotonic milliseconds. */
  readonly now: () => number
}

export type Jobs = ReturnType<typeof createJobs>

export function createJobs({ emit, remove, now }: JobsOptions) {
  const jobs = new Map<string, RunningJob>()
  const cancelled = new Set<string>()

  function end(job: RunningJob, terminal: GenerationEvent): void {
    jobs.delete(job.id)
    cancelled.delete(job.id)
    job.sequences.forEach(remove)
    job.release()
    emit(job.id, terminal)
  }

  function finish(job: RunningJob): void {
    const endedAt = now()
    const firstStepAt = job.firstStepAt ?? endedAt
    const firstTokenAt = job.firstTokenAt ?? endedAt
    const timing = {
      queueMs: firstStepAt - job.submittedAt,
      prefillMs: firstTokenAt - firstStepAt,
      decodeMs: endedAt - firstTokenAt,
    }
    const cachedTokens = job.sequences[0]?.numCachedTokens ?? 0
    end(job, { kind: 'done', timing, cachedTokens })
  }

  function jobOf(sequence: Sequence): RunningJob | undefined {
    return jobs.get(sequence.request.id)
  }

  return {
    add(job: Job): void {
      jobs.set(job.id, {
        ...job,
        submittedAt: now(),
        firstStepAt: undefined,
        firstTokenAt: undefined,
        numUnfinished: job.sequences.length,
      })
    },

    /** False where the sequence's job has ended. */
    has(sequence: Sequence): boolean {
      return jobOf(sequence) !== undefined
    },

    tell(sequence: Sequence, events: readonly GenerationEvent[]): void {
      for (const event of events) emit(sequence.request.id, event)
    },

    markFirstStep(sequence: Sequence): void {
      const job = jobOf(sequence)
      if (job !== undefined) job.firstStepAt ??= now()
    },

    markFirstToken(sequence: Sequence): void {
      const job = jobOf(sequence)
      if (job !== undefined) job.firstTokenAt ??= now()
    },

    /** One choice has ended; the job ends with its last. */
    finishChoice(sequence: Sequence): void {
      const job = jobOf(sequence)
      if (job === undefined) return
      remove(sequence)
      if (--job.numUnfinished === 0) finish(job)
    },

    fail(sequence: Sequence, error: ErrorBody): void {
      const job = jobOf(sequence)
      if (job !== undefined) end(job, { kind: 'failed', error })
    },

    /** A run that failed as a whole takes its own sequences with it; the engine goes on. */
    failStep(sequences: readonly Sequence[], error: unknown): void {
      const failure =
        error instanceof ServerError
          ? error
          : new ServerError('server_error', 'The model failed to compute this step.')
      for (const sequence of sequences) this.fail(sequence, failure.toBody())
      if (!(error instanceof ServerError)) console.error(error)
    },

    /** Remembers a cancellation until no step runs. False: there is no such job. */
    cancel(id: string): boolean {
      if (!jobs.has(id)) return false
      cancelled.add(id)
      return true
    },

    endCancelled(): void {
      for (const id of cancelled) {
        const job = jobs.get(id)
        if (job !== undefined) end(job, { kind: 'cancelled' })
      }
      cancelled.clear()
    },

    /** The adapters that these sequences run with. */
    adaptersOf(sequences: readonly Sequence[]): string[] {
      return [...new Set(sequences.flatMap((sequence) => jobOf(sequence)?.adapterIds ?? []))]
    },
  }
}
