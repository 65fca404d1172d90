// Reads adapters in a thread of their own: converting, checking and hashing a large one takes
// hundreds of milliseconds, in which the engine's own thread would answer nobody. One after the
// other, so that many at once are not all in memory twice.

import { Worker } from 'node:worker_threads'
import { type ErrorBody, ServerError } from '../errors.ts'
import type { AdapterFolder } from './adapter-folder.ts'
import {
  type LoadedAdapter,
  type ReadAdapter,
  type ReadAdapterOptions,
  type ReadFolder,
  toLoaded,
} from './peft.ts'

// Built from this file's own suffix: tsc rewrites imports but not URLs.
const entry = new URL(`./reader-thread${import.meta.url.slice(-3)}`, import.meta.url)

export interface ReadOrder {
  readonly id: number
  readonly folder: AdapterFolder
  readonly options: ReadAdapterOptions
}

export type ReadResult =
  | ({ readonly kind: 'read'; readonly id: number } & ReadFolder)
  | { readonly kind: 'refused'; readonly id: number; readonly error: ErrorBody }

interface Waiting {
  readonly resolve: (adapter: LoadedAdapter) => void
  readonly reject: (error: unknown) => void
}

export interface AdapterReader {
  readonly read: ReadAdapter
  close(): Promise<void>
}

export function createAdapterReader(): AdapterReader {
  const waiting = new Map<number, Waiting>()
  let nextId = 0
  let thread: Worker | undefined

  function start(): Worker {
    const started = new Worker(entry)
    started.on('message', (result: ReadResult) => {
      const caller = waiting.get(result.id)
      waiting.delete(result.id)
      if (result.kind === 'read') caller?.resolve(toLoaded(result))
      else caller?.reject(ServerError.from(result.error))
      if (waiting.size === 0) started.unref()
    })
    // It has its own bugs at worst: the next read starts another.
    started.once('error', (error) => console.error(error))
    started.once('exit', () => {
      if (thread === started) thread = undefined
      for (const { reject } of waiting.values()) {
        reject(new ServerError('server_error', 'The adapter could not be read.'))
      }
      waiting.clear()
    })
    // An idle thread does not keep a process alive.
    started.unref()
    return started
  }

  // At once, so that the first adapter does not wait for the thread to load its code.
  thread = start()

  return {
    read(folder, options) {
      thread ??= start()
      const running = thread
      const id = nextId++
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject })
        running.ref()
        running.postMessage({ id, folder, options } satisfies ReadOrder)
      })
    },
    async close() {
      await thread?.terminate()
    },
  }
}
