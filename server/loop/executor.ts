// Runs what the scheduler planned and hands out what it gives: logits become tokens, tokens events,
// and the prefix cache keeps what was computed.

import type { GenerationEvent } from '../contracts/generation.ts'
import type { ErrorBody } from '../errors.ts'
import { NonFiniteLogitsError } from '../sampling/sampler.ts'
import type { Jobs } from './jobs.ts'
import type { KvManager } from './kv-manager.ts'
import type { PrefillBudget } from './prefill-budget.ts'
import type { CopyStep, PrefillStep } from './prefill-turn.ts'
import type { DecodeStep, Scheduler, Step } from './scheduler.ts'
import type { Sequence } from './sequence.ts'
import type { StepRunner } from './step-runner.ts'

export interface ExecutorOptions {
  readonly runner: Pick<StepRunner, 'prefill' | 'decode' | 'blockMax' | 'numBlocks'>
  readonly scheduler: Scheduler
  readonly kvManager: Pick<KvManager, 'save'>
  readonly jobs: Jobs
  readonly prefillBudget: PrefillBudget
  readonly vocabSize: number
}

const noLogits = new Float32Array()

export function createExecutor(options: ExecutorOptions) {
  const { runner, scheduler, kvManager, jobs, prefillBudget, vocabSize } = options

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

  return {
    /** The logits [positions × vocab] that the step gives; those of a copy are none. */
    run(step: Step): Promise<Float32Array> {
      switch (step.kind) {
        case 'copy':
          return copy(step)
        case 'prefill':
          return prefill(step)
        case 'decode':
          return decode(step)
      }
    },
    /** Takes a step's logits, which it computed in `ms`. */
    collect(step: Step, logits: Float32Array, ms: number): void {
      if (step.kind === 'prefill') {
        prefillBudget.observe(step.to - step.from, ms)
        collectPrompt(step, logits)
      }
      if (step.kind === 'decode') collectTokens(step, logits)
    },
  }
}
