// Reads adapters in a thread of their own: converting, checking and hashing a large one takes
// hundreds of milliseconds, in which the engine's own thread would answer nobody. One after the
// other, so that many at once are not all in memory twice.

import { ServerError } from '../errors.ts'
import { startThread, ThreadEnded } from '../threads/thread.ts'
import { type ReadAdapter, toLoaded, UnservedModules } from './peft.ts'
import { type ReadOutcome, readTask } from './read-task.ts'

export interface AdapterReader {
  readonly read: ReadAdapter
  close(): Promise<void>
}

export function createAdapterReader(): AdapterReader {
  const thread = startThread(readTask)
  return {
    async read(folder, options) {
      const outcome: ReadOutcome = await thread.run({ folder, options }).catch(explain)
      if (outcome.kind === 'unserved') throw new UnservedModules(outcome)
      return toLoaded(outcome.read)
    },
    close: thread.terminate,
  }
}

/** Anything but a ServerError is a bug of ours; an end that was asked for is none. */
function explain(error: unknown): never {
  if (error instanceof ServerError) throw error
  const wasClosed = error instanceof ThreadEnded && error.cause === undefined
  if (!wasClosed) console.error(error)
  throw new ServerError('server_error', 'The adapter could not be read.')
}
