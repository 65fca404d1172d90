// Adapters that become part of the weights, or cease to be. A change takes as long as an engine takes to
// start: who asks waits for it, or is told how far it is, and it goes on whoever has left.

import type { MergeChange, MergeReport } from '../contracts/engine.ts'
import { parseMerge, parseMergeWait, parseUnmerge } from './adapters/merge-fields.ts'
import { incomingOf, type RequestContext, type Route, type Services } from './context.ts'
import { readJson, requireModel } from './request-target.ts'

export function mergeRoutes(services: Services): readonly Route[] {
  const { engine } = services

  function statusBody(): object {
    const { phase, ...status } = engine.mergeStatus
    return { merged: requireModel(services).merged, state: phase, ...status }
  }

  /** No body is one without fields. */
  async function readFields(context: RequestContext) {
    const { headers, body } = context.req.raw
    const hasLength = headers.has('content-length') || headers.has('transfer-encoding')
    const isSocketEmpty = incomingOf(context) !== undefined && !hasLength
    const isEmpty = body === null || isSocketEmpty || headers.get('content-length') === '0'
    return isEmpty ? {} : readJson(context, services)
  }

  async function change(
    context: RequestContext,
    parse: (body: Readonly<Record<string, unknown>>) => MergeChange,
  ): Promise<Response> {
    requireModel(services)
    const waitMs = parseMergeWait(context.req.query('wait'))
    const asked = parse(await readFields(context))
    const report = await within(waitMs, engine.changeMerge(asked))
    return report === null
      ? Response.json(statusBody(), { status: 202 })
      : Response.json(report satisfies MergeReport)
  }

  const idOf = (context: RequestContext) => context.req.param('id') ?? ''
  return [
    {
      method: 'GET',
      path: '/v1/adapters/merge',
      isOfChanges: true,
      summary: 'What the weights hold, and how far a change of it is',
      handle: () => Response.json(statusBody()),
    },
    {
      method: 'POST',
      path: '/v1/adapters/unmerge',
      summary: 'Take all adapters out of the weights',
      role: 'admin',
      handle: (context) => change(context, (body) => parseUnmerge(null, body)),
    },
    {
      method: 'POST',
      path: '/v1/adapters/:id/merge',
      summary: 'Make an adapter part of the weights',
      role: 'admin',
      handle: (context) => change(context, (body) => parseMerge(idOf(context), body)),
    },
    {
      method: 'POST',
      path: '/v1/adapters/:id/unmerge',
      summary: 'Take an adapter out of the weights',
      role: 'admin',
      handle: (context) => change(context, (body) => parseUnmerge(idOf(context), body)),
    },
  ]
}

/** null: the time was over first. */
async function within<T>(ms: number, work: Promise<T>): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined
  const isOver = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), ms)
  })
  // What comes of it later is in the log and in GET.
  work.catch(() => {})
  try {
    return await Promise.race([work, isOver])
  } finally {
    clearTimeout(timer)
  }
}
