// The adapters of one upstream: registered on first use, each under a name that never means anything else,
// tried before a request sees it, and unloaded when others need the place. What it forgets in a restart is
// registered again.

import { ServerError } from '../errors.ts'
import { type AdapterSet, nameHas, nameOfSet } from './adapter-content.ts'
import type { AdapterFolders } from './adapter-folders.ts'
import { UpstreamFailure } from './failure.ts'
import { createSlots } from './slots.ts'
import type { Transport } from './transport.ts'
import { parseModels } from './wire.ts'

export interface RegistryOptions {
  readonly transport: Pick<Transport, 'text' | 'judge'>
  readonly folders: AdapterFolders
  /** Adapters that it holds at once; it may come to be known later. */
  readonly numSlots: () => number
  /** What is asked where no adapter acts; null: the base by its own name. */
  readonly inPlaceOfBase: () => AdapterSet | null
  /** Asks with the adapter once; rejects where it is not applied. */
  readonly tryOut: (name: string, set: AdapterSet, signal: AbortSignal) => Promise<void>
  /** Of one registration, its try included. */
  readonly timeoutMs: number
  readonly onNotice: (message: string) => void
}

export interface HeldModel {
  /** What requests name as `model`; null: the base. */
  readonly name: string | null
  /** Idempotent. */
  release(): void
}

export interface Registry {
  /** Waits for a place. Rejects with ServerError, UpstreamFailure or the signal's reason. */
  hold(set: AdapterSet, signal: AbortSignal): Promise<HeldModel>
  /** The upstream said that it does not know a name which is held. */
  renew(set: AdapterSet): Promise<void>
  /** It was started anew. */
  forgetAll(): void
  /** Sets with this version of an adapter leave with the last request that runs with them. */
  retire(digest: string): void
  names(): readonly string[]
}

export function createRegistry(options: RegistryOptions): Registry {
  const { transport, folders, numSlots, inPlaceOfBase, tryOut, timeoutMs, onNotice } = options
  const slots = createSlots(numSlots, (name) => {
    registered.delete(name)
    inTurn((signal) => unload(name, signal)).catch(() => {})
  })
  const registered = new Map<string, Promise<void>>()
  /** Registrations of names that the upstream had lost. */
  const renewals = new Map<string, Promise<void>>()
  /** One change at a time: an unload must not overtake the load of the same name. */
  let lastChange: Promise<unknown> = Promise.resolve()
  /** From one start of the upstream to the next: its changes end with it, and block none of the next. */
  let life = new AbortController()

  function inTurn<T>(change: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal } = life
    const next = lastChange.then(() => {
      signal.throwIfAborted()
      return change(AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]))
    })
    lastChange = next.catch(() => {})
    return next
  }

  function post(path: string, fields: object, signal: AbortSignal): Promise<string> {
    return transport.text({ method: 'POST', path, body: JSON.stringify(fields), signal })
  }

  async function load(name: string, set: AdapterSet, signal: AbortSignal): Promise<void> {
    const path = await folders.pathOf(set)
    try {
      await post('/v1/load_lora_adapter', { lora_name: name, lora_path: path }, signal)
    } catch (error) {
      const found = await findFolder(name, error, signal)
      if (found === null) throw explainLoad(await transport.judge(error, signal))
      if (found !== path) throw registeredElsewhere()
    }
    try {
      await tryOut(name, set, signal)
    } catch (error) {
      if (error instanceof ServerError) await unload(name, signal)
      throw error
    }
  }

  /** A name that is taken is ours where its folder is: a name means its content. */
  async function findFolder(
    name: string,
    error: unknown,
    signal: AbortSignal,
  ): Promise<string | null> {
    if (!(error instanceof UpstreamFailure) || error.kind !== 'refused') return null
    const models = parseModels(await transport.text({ method: 'GET', path: '/v1/models', signal }))
    return models.find(({ id, parent }) => id === name && parent != null)?.root ?? null
  }

  async function unload(name: string, signal: AbortSignal): Promise<void> {
    await post('/v1/unload_lora_adapter', { lora_name: name }, signal).catch((error) => {
      // It may have gone with a restart; a place that stays taken shows as a load that fails.
      if (error instanceof UpstreamFailure && error.kind === 'outage') {
        onNotice('an adapter could not be unloaded from it')
      }
    })
  }

  /** null: the base by its own name. */
  function withName(asked: AdapterSet): { name: string; set: AdapterSet } | null {
    const set = nameOfSet(asked) === null ? inPlaceOfBase() : asked
    return set && { name: nameOfSet(set)!, set }
  }

  function register(name: string, set: AdapterSet): Promise<void> {
    const registration = inTurn((signal) => load(name, set, signal))
    registered.set(name, registration)
    registration.catch(() => {
      if (registered.get(name) === registration) registered.delete(name)
    })
    return registration
  }

  return {
    async hold(asked, signal) {
      const named = withName(asked)
      if (named === null) return { name: null, release() {} }
      const { name, set } = named
      const held = await slots.hold(name, signal)
      try {
        await untilAborted(registered.get(name) ?? register(name, set), signal)
        return { name, release: held.release }
      } catch (error) {
        held.release()
        if (!registered.has(name)) slots.forget(name)
        throw error
      }
    },

    async renew(asked) {
      const named = withName(asked)
      if (named === null) return
      const { name, set } = named
      // Many requests find out at once.
      const renewal = renewals.get(name) ?? register(name, set)
      renewals.set(name, renewal)
      await renewal.finally(() => renewals.delete(name))
    },

    forgetAll() {
      registered.clear()
      life.abort(new UpstreamFailure('outage', 'it is gone'))
      life = new AbortController()
    },

    retire: (digest) => slots.retire((name) => nameHas(name, digest)),

    names: () => [...registered.keys()],
  }
}

/** The registration goes on: others may wait for it. */
function untilAborted(registration: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const give = () => reject(signal.reason)
    if (signal.aborted) give()
    signal.addEventListener('abort', give, { once: true })
    registration
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', give))
      .catch(() => {})
  })
}

function registeredElsewhere(): ServerError {
  return new ServerError(
    'adapter_unavailable',
    'The upstream has this adapter from another folder: give all fronts of an upstream the same ' +
      '--upstream-adapters, or start the upstream anew.',
  )
}

/** 404: it does not see the folder; anything else: it could not read it. Both are the operator's. */
function explainLoad(error: unknown): unknown {
  if (error instanceof DOMException && error.name === 'TimeoutError') {
    return new UpstreamFailure('outage', 'an adapter was not loaded in time', { cause: error })
  }
  if (!(error instanceof UpstreamFailure) || ['busy', 'outage'].includes(error.kind)) return error
  return new ServerError(
    'adapter_unavailable',
    'The upstream did not load the adapter: it must run with --enable-lora and see --upstream-adapters ' +
      'at the same path, and its --max-lora-rank must be at least --max-adapter-rank.',
    { cause: error },
  )
}
