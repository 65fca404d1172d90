// A thread that does one task, order after order.

import { basename } from 'node:path'
import { Worker } from 'node:worker_threads'
import { ServerError } from '../errors.ts'
import {
  failureToError,
  type OnBytes,
  type Order,
  type Report,
  type ThreadData,
} from './protocol.ts'
import type { Task } from './task.ts'

/** The thread ended before it answered. `cause` is the error that it died of, if it did. */
export class ThreadEnded extends Error {
  override readonly name = 'ThreadEnded'
}

export interface Thread<Input, Output> {
  /** Rejects with the task's error, or with ThreadEnded. */
  run(input: Input, onBytes?: OnBytes): Promise<Output>
  /** Ends what it does. */
  terminate(): Promise<void>
}

/**
 * Starts at once, so that the first order does not wait for the thread to load its code. An order
 * after the thread ended starts another.
 */
export function startThread<Input, Output>(task: Task<Input, Output>): Thread<Input, Output> {
  let worker = startWorker(task)
  return {
    run(input, onBytes = () => {}) {
      if (worker.hasEnded) worker = startWorker(task)
      return worker.run(input, onBytes)
    },
    terminate: () => worker.terminate(),
  }
}

interface Waiting<Output> {
  readonly resolve: (output: Output) => void
  readonly reject: (error: unknown) => void
  readonly onBytes: OnBytes
}

function startWorker<Input, Output>({ url }: Task<Input, Output>) {
  const worker = new Worker(new URL(url), { workerData: { url } satisfies ThreadData })
  const waiting = new Map<number, Waiting<Output>>()
  let nextId = 0
  let hasEnded = false
  let cause: unknown

  function receive(report: Report<Output>): void {
    const order = waiting.get(report.id)
    if (report.kind === 'progress') {
      order?.onBytes(report.bytes)
      return
    }
    waiting.delete(report.id)
    if (waiting.size === 0) worker.unref()
    if (report.kind === 'result') order?.resolve(report.output)
    else if (report.kind === 'refused') order?.reject(ServerError.from(report.error))
    else order?.reject(failureToError(report.error))
  }

  worker.on('message', receive)
  worker.once('error', (error) => {
    hasEnded = true
    cause = error
  })
  worker.once('exit', (code) => {
    hasEnded = true
    const message = `the thread of ${basename(url)} ended with code ${code}`
    for (const { reject } of waiting.values()) reject(new ThreadEnded(message, { cause }))
    waiting.clear()
  })
  // An idle thread does not keep a process alive.
  worker.unref()

  return {
    get hasEnded() {
      return hasEnded
    },
    run(input: Input, onBytes: OnBytes): Promise<Output> {
      const id = nextId++
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject, onBytes })
        worker.ref()
        worker.postMessage({ id, input } satisfies Order<Input>)
      })
    },
    async terminate(): Promise<void> {
      hasEnded = true
      await worker.terminate()
    },
  }
}
