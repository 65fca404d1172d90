// Work that may be done in a thread of its own. The module that defines a task is the thread's
// entry: started for it, the module does what it is ordered, one order after the other.

import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { type OnBytes, type Order, type Report, reportError, type ThreadData } from './protocol.ts'

export type { OnBytes }

export interface Task<Input, Output> {
  /** Of the module that defines it. */
  readonly url: string
  run(input: Input, onBytes: OnBytes): Output | Promise<Output>
  /** Memory of the output that is handed over, not copied. */
  transfers?(output: Output): readonly ArrayBuffer[]
}

/** Called where a module is loaded, with its own `import.meta.url`. */
export function defineTask<Input, Output>(task: Task<Input, Output>): Task<Input, Output> {
  const data: ThreadData | null = workerData
  if (parentPort !== null && data?.url === task.url) serve(task, parentPort)
  return task
}

function serve<Input, Output>(task: Task<Input, Output>, port: MessagePort): void {
  function post(report: Report<Output>, transfers: readonly ArrayBuffer[] = []): void {
    port.postMessage(report, transfers)
  }

  async function answer({ id, input }: Order<Input>): Promise<void> {
    try {
      const output = await task.run(input, (bytes) => post({ kind: 'progress', id, bytes }))
      post({ kind: 'result', id, output }, task.transfers?.(output))
    } catch (error) {
      post(reportError(id, error))
    }
  }

  let last = Promise.resolve()
  port.on('message', (order: Order<Input>) => {
    last = last.then(() => answer(order))
  })
}
