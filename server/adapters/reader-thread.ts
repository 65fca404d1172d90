// The thread that reads adapters, one after the other. What was read is handed over, not copied.

import { parentPort } from 'node:worker_threads'
import { ServerError } from '../errors.ts'
import { type ReadFolder, readPeftFolder } from './peft.ts'
import type { ReadOrder, ReadResult } from './reader.ts'

async function answer({ id, folder, options }: ReadOrder): Promise<void> {
  const result = await readPeftFolder(folder, options).then(
    (read): ReadResult => ({ kind: 'read', id, ...read }),
    (error: unknown): ReadResult => ({ kind: 'refused', id, error: toBody(error) }),
  )
  parentPort?.postMessage(result, result.kind === 'read' ? memoryOf(result) : [])
}

function toBody(error: unknown) {
  if (error instanceof ServerError) return error.toBody()
  console.error(error)
  return new ServerError('server_error', 'The adapter could not be read.').toBody()
}

const memoryOf = ({ matrices }: ReadFolder): ArrayBuffer[] =>
  matrices.flatMap(({ a, b }) => [a.buffer as ArrayBuffer, b.buffer as ArrayBuffer])

let last = Promise.resolve()
parentPort?.on('message', (order: ReadOrder) => {
  last = last.then(() => answer(order))
})
