// Events to an OpenTelemetry collector over OTLP. The SDK reads its own variables: address, headers, time
// limits, the size of the queue. A full queue drops events, and a collector that fails costs nobody but
// the log, once a minute.

import { OTLPLogExporter } from '@opentelemetry/exporter-logs-otlp-http'
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from '@opentelemetry/resources'
import {
  BatchLogRecordProcessor,
  LoggerProvider,
  type LogRecordExporter,
} from '@opentelemetry/sdk-logs'
import type { Logger } from '../contracts/logger.ts'
import { unlessLate } from '../deadline.ts'
import type { EventSink } from './telemetry.ts'

/** What a stopping server waits at most. */
const closeMs = 2000
const complaintMs = 60_000
/** INFO, by OpenTelemetry's numbers. */
const information = 9

export function createOtlpSink(options: {
  readonly version: string
  readonly logger: Logger
}): EventSink {
  const { version, logger } = options
  const own = { 'service.name': 'dutyfree', 'service.version': version }
  const resource = defaultResource()
    .merge(resourceFromAttributes(own))
    .merge(detectResources({ detectors: [envDetector] }))
  const exporter = complaining(new OTLPLogExporter(), logger)
  const provider = new LoggerProvider({
    resource,
    processors: [new BatchLogRecordProcessor({ exporter })],
  })
  const events = provider.getLogger('dutyfree', version)
  return {
    emit(eventName, attributes) {
      events.emit({ eventName, severityNumber: information, attributes: { ...attributes } })
    },
    async close() {
      await unlessLate(closeMs, provider.shutdown(), () => {}).catch(() => {})
    },
  }
}

/** The same exporter, whose failures are in the log. */
function complaining(exporter: OTLPLogExporter, logger: Logger): LogRecordExporter {
  let complainedAt = Number.NEGATIVE_INFINITY
  return {
    export(records, onResult) {
      exporter.export(records, (result) => {
        const isNew = performance.now() - complainedAt >= complaintMs
        if (result.code !== 0 && isNew) {
          complainedAt = performance.now()
          const why = result.error?.message ?? 'no reason given'
          logger.warn({ events: records.length, why }, 'the OpenTelemetry collector took no events')
        }
        onResult(result)
      })
    },
    forceFlush: () => exporter.forceFlush(),
    shutdown: () => exporter.shutdown(),
  }
}
