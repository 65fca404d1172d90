// The thread that runs batches: told a seed, it gives the inputs of that seed to their target and
// reports. It counts in shared memory, so that whoever started it sees a hang.

import { parentPort, workerData } from 'node:worker_threads'
import * as fc from 'fast-check'
import { batchSize, targetOf } from './plan.ts'

export interface BatchThreadData {
  /** [0]: inputs begun in all. */
  readonly progress: Int32Array
  readonly targets: readonly string[]
}

export interface BatchOrder {
  readonly seed: number
  readonly count: number
}

export type BatchReport =
  | { readonly kind: 'passed'; readonly seed: number }
  | {
      readonly kind: 'failed'
      readonly seed: number
      readonly input: string
      readonly error: string
    }

const { progress, targets }: BatchThreadData = workerData

parentPort!.on('message', async ({ seed, count }: BatchOrder) => {
  parentPort!.postMessage(await runBatch(seed, Math.min(count, batchSize)))
})

async function runBatch(seed: number, count: number): Promise<BatchReport> {
  try {
    const target = targetOf(seed, targets)
    const opened = await target.open()
    try {
      const property = fc.asyncProperty(target.inputs, async (input) => {
        Atomics.add(progress, 0, 1)
        await opened.check(input)
      })
      const details = await fc.check(property, { seed, numRuns: count })
      if (!details.failed) return { kind: 'passed', seed }
      const input = fc.stringify(details.counterexample?.[0])
      return { kind: 'failed', seed, input, error: describe(details.errorInstance) }
    } finally {
      await opened.close()
    }
  } catch (error) {
    return {
      kind: 'failed',
      seed,
      input: '(opening or closing the target)',
      error: describe(error),
    }
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
