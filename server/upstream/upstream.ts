// One upstream: its adapters, how much it has to do, and whether it may be asked. Faults in a row open its
// circuit, so that requests do not wait for what does not answer.

import { BrokenCircuitError, ConsecutiveBreaker, circuitBreaker, handleWhen } from 'cockatiel'
import type { AdapterSet } from './adapter-content.ts'
import { UpstreamFailure } from './failure.ts'
import type { Registry } from './registry.ts'
import type { Transport } from './transport.ts'

export interface UpstreamParts {
  readonly url: string
  readonly transport: Transport
  readonly registry: Registry
  /** Its name for the base, once it was asked. */
  readonly baseName: () => string
  /** Before a circuit that opened is tried again. */
  readonly retryMs: number
  /** `isOpen` may have changed. */
  readonly onChange: () => void
}

/** What one call gave; the upstream counts as busy with it until it is released. */
export interface Used<T> {
  readonly value: T
  release(): void
}

export interface Upstream {
  readonly url: string
  readonly transport: Transport
  readonly load: number
  /** It is asked. */
  readonly isOpen: boolean
  readonly registry: Registry
  /**
   * Calls it by the name of the adapters, which are there. Where the upstream does not know them,
   * they are registered again, once. Rejects with ServerError, UpstreamFailure, or the reason.
   */
  use<T>(set: AdapterSet, signal: AbortSignal, call: Call<T>): Promise<Used<T>>
  /** It failed on what another one could do: as an outage, a fault of its own. */
  blame(): void
  /** Its engine is gone: what runs there ends, what it had registered is forgotten. */
  fall(): void
  /** It serves. */
  rise(): void
}

/** `signal` also ends when the upstream falls. */
export type Call<T> = (model: string, signal: AbortSignal) => Promise<T>

const faultsInRow = 3

export function createUpstream(parts: UpstreamParts): Upstream {
  const { url, transport, registry, baseName, retryMs, onChange } = parts
  let circuit = newCircuit()
  /** Its circuit is open, and its pause is not over. */
  let isPausing = false
  let isUp = false
  /** Of what runs there. */
  const running = new Set<AbortController>()

  function newCircuit() {
    const breaker = circuitBreaker(
      handleWhen((error) => error instanceof UpstreamFailure && error.kind === 'outage'),
      { halfOpenAfter: retryMs, breaker: new ConsecutiveBreaker(faultsInRow) },
    )
    breaker.onBreak(() => {
      if (breaker !== circuit) return
      isPausing = true
      // The next request then is the trial, whose failure opens it again.
      setTimeout(() => {
        if (breaker !== circuit) return
        isPausing = false
        onChange()
      }, retryMs + 5).unref()
      onChange()
    })
    return breaker
  }

  async function callOnce<T>(
    set: AdapterSet,
    name: string | null,
    signal: AbortSignal,
    call: Call<T>,
  ): Promise<T> {
    try {
      return await counted(() => call(name ?? baseName(), signal), signal)
    } catch (error) {
      const isLost = error instanceof UpstreamFailure && error.kind === 'unknown_model'
      if (!isLost || name === null) throw error
      await registry.renew(set)
      return await counted(() => call(name, signal), signal)
    }
  }

  /** Its outages count, each; what it says of one request does not. */
  async function counted<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T> {
    try {
      return await circuit.execute(async () => {
        try {
          return await ask()
        } catch (error) {
          throw await transport.judge(error, signal)
        }
      })
    } catch (error) {
      if (!(error instanceof BrokenCircuitError)) throw error
      throw new UpstreamFailure('outage', 'its circuit is open', { cause: error })
    }
  }

  return {
    url,
    transport,
    registry,
    get load() {
      return running.size
    },
    get isOpen() {
      return isUp && !isPausing
    },
    async use(set, given, call) {
      given.throwIfAborted()
      const controller = new AbortController()
      const { signal } = controller
      const follow = () => controller.abort(given.reason)
      given.addEventListener('abort', follow, { once: true })
      running.add(controller)
      let held: { release(): void } = { release() {} }
      function release(): void {
        if (!running.delete(controller)) return
        given.removeEventListener('abort', follow)
        held.release()
      }
      try {
        const model = await registry.hold(set, signal)
        held = model
        return { value: await callOnce(set, model.name, signal, call), release }
      } catch (error) {
        release()
        throw error
      }
    },
    blame() {
      const fault = new UpstreamFailure('outage', 'it failed where another did not')
      circuit.execute(() => Promise.reject(fault)).catch(() => {})
    },
    fall() {
      if (!isUp) return
      isUp = false
      onChange()
      const gone = new UpstreamFailure('outage', 'its health check failed')
      for (const controller of running) controller.abort(gone)
      registry.forgetAll()
    },
    rise() {
      // All checks have passed: what failed before was another.
      circuit = newCircuit()
      isPausing = false
      isUp = true
      onChange()
    },
  }
}
