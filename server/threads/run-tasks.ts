// One task on many inputs, in several threads that last as long as there is work.

import type { OnBytes } from './protocol.ts'
import type { Task } from './task.ts'
import { startThread, type Thread } from './thread.ts'

export interface RunTasksOptions {
  /** Most threads at a time. */
  readonly limit: number
  readonly onBytes: OnBytes
}

/** The outputs, in the order of the inputs. The first that fails ends the others. */
export async function runTasks<Input, Output>(
  task: Task<Input, Output>,
  inputs: readonly Input[],
  { limit, onBytes }: RunTasksOptions,
): Promise<Output[]> {
  const numThreads = Math.min(limit, inputs.length)
  const threads = Array.from({ length: numThreads }, () => startThread(task))
  const outputs: Output[] = []
  const left = inputs.entries()

  async function work(thread: Thread<Input, Output>): Promise<void> {
    // All threads take from the same iterator.
    for (const [i, input] of left) outputs[i] = await thread.run(input, onBytes)
  }

  try {
    await Promise.all(threads.map(work))
    return outputs
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()))
  }
}
