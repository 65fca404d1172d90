// The adapters of one call. Its prompts are separate requests, and all of them run with what the first
// one acquired, so that a folder that changes meanwhile gives no answer of two versions.

import type { AcquiredAdapters, AdapterStore } from '../adapters/store.ts'
import type { GenerateRequest } from '../contracts/generation.ts'

interface Call {
  readonly controller: AbortController
  readonly acquisition: Promise<AcquiredAdapters>
  /** Requests that wait for them or run with them. The last one gives them back. */
  numUsers: number
}

export function createCallAdapters(store: Pick<AdapterStore, 'acquire'>) {
  const calls = new Map<string, Call>()

  function begin(request: GenerateRequest): Call {
    const controller = new AbortController()
    const acquisition = store.acquire(request, controller.signal)
    const call = { controller, acquisition, numUsers: 0 }
    calls.set(request.turn.request, call)
    acquisition.then(
      (held) => {
        // Whoever waited for them has gone.
        if (call.numUsers === 0) held.release()
      },
      () => {},
    )
    return call
  }

  /** True for the last one. */
  function leave(name: string, call: Call): boolean {
    if (--call.numUsers > 0) return false
    if (calls.get(name) === call) calls.delete(name)
    return true
  }

  return {
    /** As the store's `acquire`; the requests of a call that overlap share its outcome. */
    async acquire(request: GenerateRequest, signal: AbortSignal): Promise<AcquiredAdapters> {
      signal.throwIfAborted()
      const name = request.turn.request
      const call = calls.get(name) ?? begin(request)
      call.numUsers++
      return new Promise((resolve, reject) => {
        function giveUp(): void {
          if (leave(name, call)) call.controller.abort()
          reject(signal.reason)
        }
        signal.addEventListener('abort', giveUp, { once: true })
        call.acquisition.then(
          (held) => {
            signal.removeEventListener('abort', giveUp)
            if (!signal.aborted) resolve(shareOf(held, () => leave(name, call)))
          },
          (error) => {
            signal.removeEventListener('abort', giveUp)
            if (!signal.aborted) leave(name, call)
            reject(error)
          },
        )
      })
    },
  }
}

function shareOf(held: AcquiredAdapters, leave: () => boolean): AcquiredAdapters {
  let isReleased = false
  return {
    ...held,
    release() {
      if (isReleased) return
      isReleased = true
      if (leave()) held.release()
    },
  }
}
