// Questions to the engine process that have no answer yet. Each is answered or refused once, also when
// the process is gone.

import type { ServerError } from '../errors.ts'
import { createDeferred } from './deferred.ts'
import type { Answer, Call, CallName, Calls } from './protocol.ts'

interface PendingCall<Value> {
  readonly resolve: (value: Value) => void
  readonly reject: (error: ServerError) => void
  /** Resolves when it is answered or refused. */
  readonly settled: Promise<unknown>
}

type PendingByName = { readonly [Name in CallName]: Map<number, PendingCall<Calls[Name][1]>> }

export interface PendingCalls {
  /** A call to send, and its answer. */
  open<Name extends CallName>(
    name: Name,
    input: Calls[Name][0],
  ): { readonly call: Call<Name>; readonly answer: Promise<Calls[Name][1]> }
  answer<Name extends CallName>(answer: Answer<Name>): void
  refuse(call: { readonly name: CallName; readonly id: number }, error: ServerError): void
  refuseAll(error: ServerError): void
  /** Resolves when all that are open now are answered or refused. */
  allSettled(): Promise<unknown>
}

export function createPendingCalls(): PendingCalls {
  const pending: PendingByName = {
    tokenize: new Map(),
    detokenize: new Map(),
    listAdapters: new Map(),
    changeAdapter: new Map(),
    prepareMerge: new Map(),
  }
  let nextId = 0

  function refuse({ name, id }: { name: CallName; id: number }, error: ServerError): void {
    pending[name].get(id)?.reject(error)
    pending[name].delete(id)
  }

  return {
    open(name, input) {
      const id = nextId++
      const { promise, resolve, reject } = createDeferred<Calls[typeof name][1]>()
      pending[name].set(id, { resolve, reject, settled: promise.catch(() => {}) })
      return { call: { kind: 'call', id, name, input }, answer: promise }
    },
    answer({ name, id, value }) {
      pending[name].get(id)?.resolve(value)
      pending[name].delete(id)
    },
    refuse,
    refuseAll(error) {
      for (const name of callNames) {
        for (const id of [...pending[name].keys()]) refuse({ name, id }, error)
      }
    },
    allSettled() {
      const open = callNames.flatMap((name) => {
        return [...pending[name].values()].map(({ settled }) => settled)
      })
      return Promise.all(open)
    },
  }
}

const callNames = [
  'tokenize',
  'detokenize',
  'listAdapters',
  'changeAdapter',
  'prepareMerge',
] as const satisfies readonly CallName[]
