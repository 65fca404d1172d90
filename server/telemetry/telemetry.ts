// What OpenTelemetry is told, where an operator configured an exporter by its standard variables: an event
// for each verdict, and one for each request with its usage. No prompt and no text is among it. Without
// those variables no package of it is loaded.

import type { Logger } from '../contracts/logger.ts'
import type { Observer } from '../contracts/observer.ts'
import { ServerError } from '../errors.ts'
import { type EventAttributes, evaluationOf, operationOf } from './events.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** Takes events at once and sends them later; what it cannot send is dropped. */
export interface EventSink {
  emit(name: string, attributes: EventAttributes): void
  /** Sends what is left; resolves in time also where nobody listens. */
  close(): Promise<void>
}

export interface Telemetry {
  /** The observer, and what it is told is sent, too. */
  alongside(observer: Observer): Observer
  close(): Promise<void>
}

/** By the specification's variables. */
export function isConfigured(env: Environment): boolean {
  if (env.OTEL_SDK_DISABLED?.toLowerCase() === 'true') return false
  const exporter = env.OTEL_LOGS_EXPORTER?.trim()
  if (exporter !== undefined && exporter !== '') return exporter.split(',').includes('otlp')
  return Boolean(env.OTEL_EXPORTER_OTLP_ENDPOINT || env.OTEL_EXPORTER_OTLP_LOGS_ENDPOINT)
}

/** null: nothing is configured. Rejects with ServerError where the variables cannot be used. */
export async function openTelemetry(
  env: Environment,
  options: { readonly version: string; readonly logger: Logger },
): Promise<Telemetry | null> {
  if (!isConfigured(env)) return null
  checkProtocol(env, options.logger)
  const { createOtlpSink } = await import('./otlp-sink.ts')
  try {
    return createTelemetry(createOtlpSink(options))
  } catch (error) {
    const { message } = error as Error
    throw new ServerError('invalid_config', `The OTEL_… variables cannot be used: ${message}`)
  }
}

/** A collector's HTTP port takes JSON and protobuf alike; its gRPC port takes neither. */
function checkProtocol(env: Environment, logger: Logger): void {
  const asked = env.OTEL_EXPORTER_OTLP_LOGS_PROTOCOL || env.OTEL_EXPORTER_OTLP_PROTOCOL
  if (!asked || asked.startsWith('http/')) return
  logger.warn({ asked }, 'OpenTelemetry events are sent as http/json: name a port that takes it')
}

function createTelemetry(sink: EventSink): Telemetry {
  let model: string | null = null
  return {
    alongside(observer) {
      return {
        ...observer,
        engineReady(ready) {
          model = ready.id
          observer.engineReady(ready)
        },
        verdict(event) {
          observer.verdict(event)
          sink.emit('gen_ai.evaluation.result', evaluationOf(event, model))
        },
        requestFinished(event) {
          observer.requestFinished(event)
          sink.emit('gen_ai.client.inference.operation.details', operationOf(event, model))
        },
      }
    },
    close: sink.close,
  }
}
