// What the server has: GET /v1/models (base and adapters, as vLLM lists them) and GET /v1/adapters.
// `root` is a logical name; paths of the machine stay on the machine.

import type { AdapterSummary } from '../contracts/adapter.ts'
import type { ModelInfo } from '../contracts/engine.ts'
import { ServerError } from '../errors.ts'
import type { Route, Services } from './context.ts'
import { mentionedNames, parseModel } from './request/adapter-choice.ts'
import { quote } from './request/quote.ts'
import { requireModel } from './request-target.ts'

function modelEntry(model: ModelInfo) {
  return {
    id: model.id,
    object: 'model',
    created: model.created,
    owned_by: 'dutyfree',
    root: model.id,
    parent: null as string | null,
    max_model_len: model.maxContext,
    permission: [],
  }
}

function adapterEntry(adapter: AdapterSummary, model: ModelInfo) {
  return {
    ...modelEntry(model),
    id: adapter.id,
    root: `adapters/${adapter.id}`,
    parent: model.id as string | null,
  }
}

export function modelRoutes(services: Services): readonly Route[] {
  async function listModels() {
    const model = requireModel(services)
    const adapters = await services.adapters.read()
    return [
      modelEntry(model),
      // A broken folder cannot be served; GET /v1/adapters says why.
      ...adapters
        .filter(({ state }) => state !== 'invalid')
        .map((adapter) => adapterEntry(adapter, model)),
    ]
  }

  /** By every name that a request may give as its model. */
  async function findModel(id: string) {
    const model = requireModel(services)
    const adapters = await services.adapters.read(
      mentionedNames({ query: [], model: id }, model.id),
    )
    const usable = adapters.filter(({ state }) => state !== 'invalid')
    const known = new Set(usable.map((adapter) => adapter.id))
    const mention = parseModel(id, { baseId: model.id, known })
    if (mention === undefined) return modelEntry(model)
    const adapter = usable.find((candidate) => candidate.id === mention.refs[0]?.id)
    // `none` is the base, whatever --default-adapter says.
    if (adapter === undefined) return { ...modelEntry(model), id, parent: model.id }
    return { ...adapterEntry(adapter, model), id }
  }

  async function listAdapters(id: string | undefined) {
    requireModel(services)
    return services.adapters.read(id === undefined ? [] : [id])
  }

  function find<T extends { readonly id: string }>(
    entries: readonly T[],
    id: string | undefined,
  ): T {
    const entry = entries.find((candidate) => candidate.id === id)
    if (entry !== undefined) return entry
    throw new ServerError('model_not_found', `the adapter ${quote(id)} does not exist`)
  }

  return [
    {
      method: 'GET',
      path: '/v1/models',
      summary: 'The base model and its adapters',
      handle: async () => Response.json({ object: 'list', data: await listModels() }),
    },
    {
      method: 'GET',
      path: '/v1/models/:id',
      summary: 'One model',
      handle: async (context) => Response.json(await findModel(context.req.param('id') ?? '')),
    },
    {
      method: 'GET',
      path: '/v1/models/:org/:name',
      summary: 'One model whose id has a slash',
      async handle(context) {
        const { org, name } = context.req.param()
        return Response.json(await findModel(`${org}/${name}`))
      },
    },
    {
      method: 'GET',
      path: '/v1/adapters',
      summary: 'The adapters with state, digest, rank and provenance',
      handle: async () => Response.json({ object: 'list', data: await listAdapters(undefined) }),
    },
    {
      method: 'GET',
      path: '/v1/adapters/:id',
      summary: 'One adapter',
      async handle(context) {
        const id = context.req.param('id')
        return Response.json(find(await listAdapters(id), id))
      },
    },
  ]
}
