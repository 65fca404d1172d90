// Adapters that become part of the weights, or cease to be. A change takes as long as an engine takes to
// start: who asks waits for it, or is told how far it is, and it goes on whoever has left.

import type { MergeChange, MergeReport } from '../contracts/engine.ts'
import { unlessLate } from '../deadline.ts'
import { parseMerge, parseMergeWait, parseUnmerge } from './adapters/merge-fields.ts'
import type { RequestContext, Route, Services } from './context.ts'
import { readJson, requireModel } from './request-target.ts'

export function mergeRoutes(services: Services): readonly Route[] {
  const { engine } = services

  function statusBody(): object {
    const { phase, ...status } = engine.mergeStatus
    return { merged: requireModel(services).merged, state: phase, ...status }
  }

  async function change(
    context: RequestContext,
    parse: (body: Readonly<Record<string, unknown>>) => MergeChange,
  ): Promise<Response> {
    requireModel(services)
    const waitMs = parseMergeWait(context.req.query('wait'))
    const asked = parse(await readJson(context, services, { mayBeMissing: true }))
    // What comes of it later is in the log and in GET.
    const report = await unlessLate(waitMs, engine.changeMerge(asked), () => null)
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
