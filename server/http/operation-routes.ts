// For those who run the server: health, metrics, and what the API is.
// /health is vLLM's: it means ready. Kubernetes asks /health/live (restart me) and /health/ready.

import { modelLoading, ServerError, shuttingDown } from '../errors.ts'
import type { RequestContext, Route, Services } from './context.ts'
import { openApiDocument } from './openapi.ts'
import { requireModel } from './request-target.ts'

export interface MetricsPage {
  readonly contentType: string
  render(): Promise<string>
}

export function operationRoutes(
  services: Services,
  options: {
    readonly metrics: MetricsPage
    readonly version: string
    /** All routes, these included; read when asked. */
    readonly routes: () => readonly Route[]
  },
): readonly Route[] {
  function ready() {
    if (services.admission.isDraining) throw shuttingDown()
    requireModel(services)
    const { state, outage } = services.engine
    if (state === 'ready' && outage !== null) throw ServerError.from(outage)
    if (state === 'ready') return Response.json({ status: 'ready' })
    throw state === 'stopped' ? shuttingDown() : modelLoading(state)
  }

  function get(
    path: string,
    summary: string,
    handle: (context: RequestContext) => Response | Promise<Response>,
  ): Route {
    return { method: 'GET', path, summary, handle }
  }

  return [
    get('/health/live', 'The process answers', () => Response.json({ status: 'live' })),
    get('/health/ready', 'Requests are served now', ready),
    get('/health', 'The same as /health/ready', ready),
    {
      method: 'GET',
      path: '/metrics',
      summary: 'Prometheus metrics',
      role: 'metrics',
      handle: async () =>
        new Response(await options.metrics.render(), {
          headers: { 'content-type': options.metrics.contentType },
        }),
    },
    get('/version', 'The version of this server', () =>
      Response.json({ version: options.version }),
    ),
    get('/ping', 'The same as /health/ready, without a body', () => {
      ready()
      return new Response(null, { status: 200 })
    }),
    get('/tokenizer_info', 'Its named tokens and its chat template', () => {
      const { tokenizer, maxContext } = requireModel(services)
      return Response.json({
        ...tokenizer.namedTokens,
        chat_template: tokenizer.chatTemplate,
        model_max_length: maxContext,
      })
    }),
    get('/openapi.json', 'This document', () =>
      Response.json(openApiDocument({ routes: options.routes(), version: options.version })),
    ),
  ]
}
