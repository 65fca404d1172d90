// A task for tests of threads: it does what it is told.

import { setTimeout as sleep } from 'node:timers/promises'
import { ServerError } from '../../server/errors.ts'
import { defineTask } from '../../server/threads/task.ts'

export type OddInput =
  | { readonly kind: 'double'; readonly numbers: Float32Array<ArrayBuffer>; readonly ms?: number }
  | { readonly kind: 'refuse' }
  | { readonly kind: 'fail' }
  | { readonly kind: 'exit' }
  | { readonly kind: 'throw outside' }
  | { readonly kind: 'hang' }

export const oddTask = defineTask({
  url: import.meta.url,
  async run(input: OddInput, onBytes): Promise<Float32Array<ArrayBuffer>> {
    switch (input.kind) {
      case 'double':
        await sleep(input.ms ?? 0)
        onBytes(input.numbers.byteLength)
        return input.numbers.map((x) => 2 * x)
      case 'refuse':
        throw new ServerError('invalid_adapter', 'No.', { param: 'adapter' })
      case 'fail':
        throw Object.assign(new Error('no space'), { code: 'ENOSPC' })
      case 'exit':
        return process.exit(3)
      case 'throw outside':
        setImmediate(() => {
          throw new Error('a bug')
        })
        return new Promise(() => {})
      case 'hang':
        return new Promise(() => {})
    }
  },
  transfers: ({ buffer }) => [buffer],
})
