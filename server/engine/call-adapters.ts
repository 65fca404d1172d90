// The adapters of one call. Its prompts are separate requests, and all of them run with what the first
// one acquired, so that a folder that changes meanwhile gives no answer of two versions. What a reply may
// be escalated with is acquired with them, all or nothing: nobody waits for memory while it holds some.

import type { AcquiredAdapters, AdapterStore } from '../adapters/store.ts'
import { requireNamed } from '../adapters/strength.ts'
import type { AdapterRef, AdapterSelection } from '../contracts/adapter.ts'
import type { GenerateRequest } from '../contracts/generation.ts'

interface Call {
  readonly controller: AbortController
  readonly acquisition: Promise<AcquiredAdapters>
  /** Requests that wait for them or run with them. The last one gives them back. */
  numUsers: number
}

export function createCallAdapters(store: Pick<AdapterStore, 'acquire'>) {
  const calls = new Map<string, Call>()

  async function acquireAll(
    request: GenerateRequest,
    signal: AbortSignal,
  ): Promise<AcquiredAdapters> {
    // An adapter that comes with an escalation only does not fill the operator's demand.
    requireNamed(request)
    return store.acquire(withEscalation(request), signal)
  }

  function begin(request: GenerateRequest): Call {
    const controller = new AbortController()
    const acquisition = acquireAll(request, controller.signal)
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

/** What a flagged reply goes on with; null: it is not escalated. */
export function escalationOf({ safety }: GenerateRequest): AdapterRef | null {
  if (safety?.input !== 'escalate' && safety?.reply !== 'escalate') return null
  return safety.escalation
}

function withEscalation(request: GenerateRequest): AdapterSelection {
  const escalation = escalationOf(request)
  const { adapters, required } = request
  if (escalation === null || adapters.some(({ id }) => id === escalation.id)) return request
  return { adapters: [...adapters, escalation], required }
}
