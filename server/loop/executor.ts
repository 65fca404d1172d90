// Runs what the scheduler planned and hands out what it gives: logits become tokens, tokens events,
// and the prefix cache keeps what was computed.

import type { GrammarWalk } from '../contracts/constraint.ts'
import type { GenerationEvent } from '../contracts/generation.ts'
import { unlessLate } from '../deadline.ts'
import { type ErrorBody, ServerError } from '../errors.ts'
import type { LoadedGuard } from '../safety/guard.ts'
import { NonFiniteLogitsError, NoTokenLeftError } from '../sampling/sampler.ts'
import type { Jobs } from './jobs.ts'
import type { KvManager } from './kv-manager.ts'
import type { PrefillBudget } from './prefill-budget.ts'
import type { PrefillStep } from './prefill-turn.ts'
import type { SavedBlock } from './prefix-cache.ts'
import type { Readings } from './readings.ts'
import type { DecodeStep, Scheduler, Step } from './scheduler.ts'
import type { Sequence } from './sequence.ts'
import { createStepRun, type StepRunner } from './step-runner.ts'
import type { VerdictStep } from './verdict-step.ts'

export interface ExecutorOptions<Saved extends SavedBlock> {
  readonly runner: StepRunner<Saved>
  /** Null: no verdict is ever scheduled. */
  readonly guard: LoadedGuard | null
  readonly scheduler: Scheduler
  readonly kvManager: Pick<KvManager, 'save' | 'forget'>
  readonly jobs: Jobs
  readonly prefillBudget: PrefillBudget
  readonly vocabSize: number
  /** A sequence begins anew: its row goes to others, until it is its turn again. */
  readonly restart: (sequence: Sequence) => void
  readonly readings: Readings
}

/** How much longer a step may take for the sake of rows whose grammar is late, in ms. */
const graceMs = 2
/** Where all rows are late. New prompts wait as long. */
const allLateMs = 50

export function createExecutor<Saved extends SavedBlock>(options: ExecutorOptions<Saved>) {
  const { runner, guard, scheduler, kvManager, jobs, prefillBudget, vocabSize } = options

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
    // One that was preempted after its prompt says nothing until it has computed its own again.
    if (sequence.hasBegun) return
    jobs.markFirstToken(sequence)
    acceptProbe(sequence, last)
    accept(sequence, () => {
      const events = sequence.finishPrompt()
      if (sequence.isEnded) return events
      return [...events, ...sequence.accept(logitsAt(logits, last), blockMaxAt(last))]
    })
  }

  function collectTokens({ sequences }: DecodeStep, logits: Float32Array): void {
    const late = new Set(sequences.filter(({ missing }) => missing !== null))
    for (const sequence of sequences) {
      if (!late.has(sequence)) sequence.advance(sequence.numComputed + 1)
    }
    for (const [row, sequence] of sequences.entries()) {
      if (late.has(sequence)) continue
      acceptProbe(sequence, row)
      accept(sequence, () => {
        if (sequence.isRecomputing || sequence.isEnded) return []
        return sequence.accept(logitsAt(logits, row), blockMaxAt(row))
      })
    }
  }

  function collectVerdicts({ sequences, places }: VerdictStep, logits: Float32Array): void {
    for (const [row, sequence] of sequences.entries()) {
      if (places[row] === null || !jobs.has(sequence)) continue
      const own = logits.length > 0 ? logitsAt(logits, row) : null
      options.readings.collect(sequence, own)
      giveVerdict(sequence, own)
    }
  }

  /** The verdict that was due, as logits [vocab]; null: the guard gave none. */
  function giveVerdict(sequence: Sequence, logits: Float32Array | null): void {
    if (!jobs.has(sequence)) return
    const { events, move } = sequence.judge(logits)
    jobs.tell(sequence, events)
    if (move === 'back') kvManager.forget(sequence)
    if (sequence.isFinished) jobs.finishChoice(sequence)
    else if (move !== 'on' && (move === 'anew' || !scheduler.running().includes(sequence))) {
      options.restart(sequence)
    }
  }

  /** What a sequence makes of its logits; a row without numbers fails its own request only. */
  function accept(sequence: Sequence, toEvents: () => readonly GenerationEvent[]): void {
    if (!jobs.has(sequence)) return
    try {
      jobs.tell(sequence, toEvents())
    } catch (error) {
      jobs.fail(sequence, failureOf(error))
      return
    }
    kvManager.save(sequence, scheduler.running().indexOf(sequence))
    if (sequence.isFinished) jobs.finishChoice(sequence)
  }

  function acceptProbe(sequence: Sequence, position: number): void {
    const product = runner.probe?.[position]
    if (product !== undefined) sequence.acceptProbe(product)
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
    giveVerdict,
    run: createStepRun({ runner, guard, jobs }),
    /** Grammars without which the step's logits are of no use to their rows. */
    missing: missingOf,
    waitFor,
    /** Takes a step's logits, which it computed in `ms`. */
    collect(step: Step, logits: Float32Array, ms: number): void {
      if (step.kind === 'prefill') {
        prefillBudget.observe(step.to - step.from, ms)
        collectPrompt(step, logits)
      }
      if (step.kind === 'decode') collectTokens(step, logits)
      if (step.kind === 'verdict') collectVerdicts(step, logits)
    },
  }
}

function missingOf(step: Step): readonly GrammarWalk[] {
  return step.kind === 'decode' ? step.sequences.flatMap(({ missing }) => missing ?? []) : []
}

/**
 * Until all grammars are known, or for a moment: they were asked while the step ran. A row whose grammar
 * is late computes its last token once more, with the same result, while others go on.
 */
async function waitFor(missing: readonly GrammarWalk[], step: Step): Promise<void> {
  const all = missing.map((walk) => walk.ready())
  const isAlone = 'sequences' in step && missing.length === step.sequences.length
  const enough: Promise<unknown> = isAlone ? Promise.race(all) : Promise.all(all)
  await unlessLate(isAlone ? allLateMs : graceMs, enough, () => {})
}

/** What its request is told; any other error is a bug, and thrown. */
function failureOf(error: unknown): ErrorBody {
  if (error instanceof ServerError) return error.toBody()
  const isBroken = error instanceof NonFiniteLogitsError
  if (!isBroken && !(error instanceof NoTokenLeftError)) throw error
  const code = isBroken ? 'numerical_error' : 'invalid_value'
  return { code, message: `Generation stopped: ${error.message}.` }
}
