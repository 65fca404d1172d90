// Adapters that need more modules than the engine has sites for. The engine refuses such a request and
// says which modules it lacks; another engine is started with them, and the request runs there.

import { inLayerOrder, linearModules } from '../contracts/checkpoint.ts'
import type { Generation } from '../contracts/engine.ts'
import type { GenerateRequest, GenerationEvent } from '../contracts/generation.ts'
import type { Logger } from '../contracts/logger.ts'
import { type EngineNeeds, type ErrorBody, ServerError, shuttingDown } from '../errors.ts'
import { createDeferred } from './deferred.ts'
import type { Change } from './engines.ts'

export interface AdapterProvisionOptions {
  /** Sends the request to the current engine. */
  readonly submit: (request: GenerateRequest) => Generation
  /** Resolves when `submit` goes to an engine with the changed options; rejects where there is none. */
  readonly replace: (change: Change) => Promise<void>
  readonly isClosing: () => boolean
  readonly logger: Logger
}

export interface AdapterProvision {
  /** Runs the request, on another engine where the current one lacks modules for its adapters. */
  submit(request: GenerateRequest): Generation
}

/** Why there was no engine for an adapter, while its folder stays as it was. */
interface Refusal {
  readonly version: string
  readonly reason: string
}

export function createAdapterProvision(options: AdapterProvisionOptions): AdapterProvision {
  const { replace, isClosing, logger } = options
  /** By adapter. */
  const refusals = new Map<string, Refusal>()

  function refusalOf({ adapterId, version }: EngineNeeds): Refusal | undefined {
    const refusal = refusals.get(adapterId)
    return refusal?.version === version ? refusal : undefined
  }

  /** Resolves with null when an engine can run the adapter, else with the error for the client. */
  async function provide(needs: EngineNeeds): Promise<ServerError | null> {
    const before = refusalOf(needs)
    if (before !== undefined) return refused(needs, before)
    try {
      await replace((engine, model) => {
        // A request before this one in the line may have asked for the same.
        const earlier = refusalOf(needs)
        if (earlier !== undefined) throw new Error(earlier.reason)
        const adapterModules = inLayerOrder(model.adapterModules, needs.modules)
        const isServed = adapterModules.length === model.adapterModules.length
        return isServed ? null : { ...engine, adapterModules }
      })
      return null
    } catch (error) {
      if (isClosing()) return shuttingDown()
      const reason = (error as Error).message
      refusals.set(needs.adapterId, { version: needs.version, reason })
      logger.error({ adapter: needs.adapterId, reason }, 'no engine for an adapter')
      return unavailable(needs, reason)
    }
  }

  return {
    submit(request) {
      let inner = options.submit(request)
      const cancelled = createDeferred<'cancelled'>()

      async function* run(): AsyncGenerator<GenerationEvent, void> {
        // Each replacement brings a module more.
        for (let left: number = linearModules.length; ; left--) {
          const refusal = yield* passOn(inner.events)
          if (refusal === null) return
          const outcome =
            left === 0
              ? ServerError.from(refusal)
              : await Promise.race([provide(refusal.needs), cancelled.promise])
          if (outcome !== null) {
            yield outcome === 'cancelled'
              ? { kind: 'cancelled' }
              : { kind: 'failed', error: outcome.toBody() }
            return
          }
          inner = options.submit(request)
        }
      }

      return {
        id: request.id,
        events: run(),
        cancel() {
          cancelled.resolve('cancelled')
          inner.cancel()
        },
      }
    },
  }
}

/** Hands events on; stops before a refusal that another engine would not give. */
async function* passOn(
  events: AsyncIterable<GenerationEvent>,
): AsyncGenerator<GenerationEvent, (ErrorBody & { needs: EngineNeeds }) | null> {
  for await (const event of events) {
    if (event.kind === 'failed' && event.error.needs) {
      return { ...event.error, needs: event.error.needs }
    }
    yield event
  }
  return null
}

function unavailable({ adapterId, modules }: EngineNeeds, reason: string): ServerError {
  return new ServerError(
    'adapter_unavailable',
    `Adapter "${adapterId}" changes ${modules.join(', ')}, for which the engine has no place, and ` +
      `another could not be started: ${reason}`,
    { param: 'adapter' },
  )
}

function refused({ adapterId, modules }: EngineNeeds, { reason }: Refusal): ServerError {
  return new ServerError(
    'unsupported_adapter',
    `Adapter "${adapterId}" changes ${modules.join(', ')}, for which this server has no place: ` +
      `${reason} It is tried again when its folder changes.`,
    { param: 'adapter' },
  )
}
