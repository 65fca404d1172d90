// Long synchronous work in a thread of its own: a module of this folder names its task and gets the
// data; progress, the result and errors come back as messages. Errors that someone can act on keep
// their code, which an error that crosses a thread by itself would lose.

import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { type ErrorBody, ServerError } from '../errors.ts'

/** Told how many more bytes are done. */
export type OnBytes = (bytes: number) => void

/** The modules that call `serveTask`; each task is named like its module. */
export type TaskName = 'convert-part' | 'file-hash'

type FromWorker =
  | { readonly kind: 'progress'; readonly bytes: number }
  | { readonly kind: 'result'; readonly value: unknown }
  | { readonly kind: 'refused'; readonly error: ErrorBody }
  | { readonly kind: 'failed'; readonly message: string; readonly code: string | undefined }

interface WorkerInput {
  readonly task: TaskName
  readonly data: unknown
}

const extension = import.meta.url.slice(-3)

/** Runs a task on each of `inputs`, `limit` at a time. The first that fails ends the others. */
export async function runWorkers<Result>(
  task: TaskName,
  inputs: readonly unknown[],
  { limit, onBytes }: { limit: number; onBytes: OnBytes },
): Promise<Result[]> {
  const results: Result[] = []
  const running = new Set<Worker>()
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < inputs.length) {
      const at = next++
      results[at] = await runWorker<Result>(task, inputs[at], onBytes, running)
    }
  }
  try {
    await Promise.all(Array.from({ length: Math.min(limit, inputs.length) }, lane))
  } catch (error) {
    next = inputs.length
    await Promise.all([...running].map((worker) => worker.terminate()))
    throw error
  }
  return results
}

function runWorker<Result>(
  task: TaskName,
  data: unknown,
  onBytes: OnBytes,
  running: Set<Worker>,
): Promise<Result> {
  return new Promise((resolve, reject) => {
    const url = new URL(`./${task}${extension}`, import.meta.url)
    const worker = new Worker(url, { workerData: { task, data } satisfies WorkerInput })
    running.add(worker)
    worker.on('message', (message: FromWorker) => {
      switch (message.kind) {
        case 'progress':
          return onBytes(message.bytes)
        case 'result':
          return resolve(message.value as Result)
        case 'refused':
          return reject(ServerError.from(message.error))
        case 'failed':
          return reject(Object.assign(new Error(message.message), { code: message.code }))
      }
    })
    worker.once('error', reject)
    worker.once('exit', (code) => {
      running.delete(worker)
      reject(new Error(`the thread of ${task} ended with code ${code}`))
    })
  })
}

/** Called by the module of a task: does it where this thread was started for it. */
export function serveTask<Data>(task: TaskName, run: (data: Data, onBytes: OnBytes) => unknown) {
  const port = parentPort
  const input = workerData as WorkerInput | null
  if (isMainThread || port === null || input?.task !== task) return
  const post = (message: FromWorker) => port.postMessage(message)
  try {
    const value = run(input.data as Data, (bytes) => post({ kind: 'progress', bytes }))
    post({ kind: 'result', value })
  } catch (error) {
    if (error instanceof ServerError) return post({ kind: 'refused', error: error.toBody() })
    const { message, code } = error as NodeJS.ErrnoException
    post({ kind: 'failed', message, code })
  }
}
