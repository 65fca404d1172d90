// What the engine needs of a model: runs over the rows of its cache, and copies between two runs. And how
// each kind of step is run on it.

import type { ScaledRankOne } from '../contracts/adapter.ts'
import type { LoadedGuard } from '../safety/guard.ts'
import type { Jobs } from './jobs.ts'
import type { KvShape } from './kv-shape.ts'
import type { CopyStep, PrefillStep } from './prefill-turn.ts'
import type { SavedBlock } from './prefix-cache.ts'
import type { DecodeStep, Step } from './scheduler.ts'
import { runVerdicts, type VerdictStep } from './verdict-step.ts'

/** What a step needs of a model; the real one is model/runner, tests bring a scripted one. */
export interface StepRunner<Saved extends SavedBlock = SavedBlock> {
  prefill(input: {
    row: number
    tokens: readonly number[]
    past: number
    components: readonly ScaledRankOne[]
    numLogits: number
  }): Promise<Float32Array>
  decode(
    batch: ReadonlyArray<{
      token: number
      past: number
      components: readonly ScaledRankOne[]
    }>,
  ): Promise<Float32Array>
  /**
   * One token for each of rows 0 … n − 1, all with the same components, which widen no row of `decode`.
   * It writes position `past` of each row, and no other. Logits, [n × vocab], of which only the two
   * `wanted` ones need to be right.
   */
  verdict(
    batch: ReadonlyArray<{ token: number; past: number }>,
    components: readonly ScaledRankOne[],
    wanted: readonly [number, number],
  ): Promise<Float32Array>
  /** Of each position whose logits the last run returned, w · h; null: there is no probe. */
  readonly probe: Float32Array | null
  /**
   * The largest logit of each block of the vocabulary, [positions × numBlocks], for what the last
   * run returned; null where the model does not tell.
   */
  readonly blockMax: Float32Array | null
  readonly numBlocks: number
  reshape(shape: KvShape, lengths: readonly number[]): void
  /**
   * The same in parts, with steps between them: moves about `maxBytes`, at least something, and says whether
   * all is done. Absent where a model cannot.
   */
  reshapePart?(shape: KvShape, lengths: readonly number[], maxBytes: number): boolean
  copyRow(from: number, to: number, start: number, count: number): void
  readonly positionBytes: number
  savePositions(row: number, start: number, count: number): Saved
  restorePositions(saved: Saved, row: number, start: number): void
}

export interface StepRunOptions<Saved extends SavedBlock> {
  readonly runner: StepRunner<Saved>
  /** Null: no verdict is ever scheduled. */
  readonly guard: LoadedGuard | null
  readonly jobs: Pick<Jobs, 'markFirstStep'>
}

const noLogits = new Float32Array()

/** Runs one step: the logits [positions × vocab] that it gives; those of a copy are none. */
export function createStepRun<Saved extends SavedBlock>(options: StepRunOptions<Saved>) {
  const { runner, guard, jobs } = options

  async function copy({ sequence, row, hit }: CopyStep): Promise<Float32Array> {
    jobs.markFirstStep(sequence)
    hit.copyTo(row)
    sequence.reuse(hit.to)
    return noLogits
  }

  function prefill({ sequence, row, from, to }: PrefillStep): Promise<Float32Array> {
    jobs.markFirstStep(sequence)
    const { promptTokens, needsPromptLogits } = sequence
    const tokens = promptTokens.slice(from, to)
    const components = sequence.componentsAt(from)
    const numLogits = needsPromptLogits ? tokens.length : 1
    return runner.prefill({ row, tokens, past: from, components, numLogits })
  }

  function decode({ sequences }: DecodeStep): Promise<Float32Array> {
    const batch = sequences.map((sequence) => ({
      token: sequence.tokenAt(sequence.numComputed),
      past: sequence.numComputed,
      components: sequence.componentsAt(sequence.numComputed),
    }))
    return runner.decode(batch)
  }

  /** A guard that fails gives no logits, and fails no stream. */
  function judge(step: VerdictStep): Promise<Float32Array> {
    return runVerdicts(runner, guard!, step).catch((error) => {
      console.error(error)
      return noLogits
    })
  }

  return (step: Step): Promise<Float32Array> => {
    switch (step.kind) {
      case 'copy':
        return copy(step)
      case 'prefill':
        return prefill(step)
      case 'decode':
        return decode(step)
      case 'verdict':
        return judge(step)
    }
  }
}
