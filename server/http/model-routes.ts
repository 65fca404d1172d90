// What the server has: GET /v1/models (base and adapters, as vLLM lists them) and GET /v1/adapters.
// `root` is a logical name; paths of the machine stay on the machine.

import type { AdapterSummary } from '../contracts/adapter.ts'
import type { ModelInfo } from '../contracts/engine.ts'
import { ServerError } from '../errors.ts'
import type { Route, Services } from './context.ts'
import { listPage } from './reply/list-page.ts'
import { mentionedNames, parseModel } from './request/adapter-choice.ts'
import { type ListRange, readRange } from './request/query.ts'
import { quote } from './request/quote.ts'
import { requireModel } from './request-target.ts'

const maxModels = 1000
/** Each may have a manifest of 128 kB. */
const maxAdapters = 100

function modelEntry(model: ModelInfo) {
  return {
    id: model.id,
    object: 'model',
    created: model.created,
    owned_by: 'dutyfree',
    root: model.id,
    parent: null as string | null,
    ...(model.merged.length > 0 && { merged: model.merged }),
    max_model_len: model.maxContext,
    permission: [],
    /** What applies where a request is silent. */
    default_sampling_params: samplingDefaults(model),
    /** Where engines differ: docs/SCALE-OUT.md. */
    capabilities: capabilities(model),
  }
}

function samplingDefaults({ defaults }: ModelInfo) {
  return {
    temperature: defaults.temperature,
    top_p: defaults.topP,
    top_k: defaults.topK,
    min_p: defaults.minP,
    presence_penalty: defaults.presencePenalty,
    frequency_penalty: defaults.frequencyPenalty,
    repetition_penalty: defaults.repetitionPenalty,
  }
}

function capabilities({ capabilities, guard }: ModelInfo) {
  const { attestation, spans, verdicts, probe, constrained } = capabilities
  const judges = guard?.kind === 'url' ? 'address' : guard && verdicts
  return {
    attestation,
    adapter_spans: spans,
    verdicts: judges,
    probe: probe && guard !== null,
    structured_outputs: constrained,
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

/** An adapter as it is listed, and its strength in the weights. */
function withMerged(adapter: AdapterSummary, { merged }: ModelInfo) {
  const scale = merged.find(({ id }) => id === adapter.id)?.scale
  return scale === undefined ? adapter : { ...adapter, mergedScale: scale }
}

function isServed({ error, kind }: AdapterSummary): boolean {
  return error === null && kind === 'adapter'
}

export function modelRoutes(services: Services): readonly Route[] {
  /** The base comes first, then the adapters. */
  async function listModels({ after, limit }: ListRange) {
    const model = requireModel(services)
    const models = after === undefined ? [modelEntry(model)] : []
    let from = after === model.id ? undefined : after
    // What cannot be served is no model; GET /v1/adapters says why.
    for (;;) {
      const { adapters, hasMore } = await services.adapters.page({
        after: from,
        limit,
        isBrief: true,
      })
      for (const adapter of adapters) {
        if (!isServed(adapter)) continue
        if (models.length === limit) return listPage(models, true)
        models.push(adapterEntry(adapter, model))
      }
      if (!hasMore) return listPage(models, false)
      from = adapters.at(-1)!.id
    }
  }

  /** By every name that a request may give as its model. */
  async function findModel(id: string) {
    const model = requireModel(services)
    const adapters = await services.adapters.read(
      mentionedNames({ query: [], model: id }, model.id),
    )
    const usable = adapters.filter(isServed)
    const known = new Set(usable.map((adapter) => adapter.id))
    const { merged } = model
    const mention = parseModel(id, { baseId: model.id, known, merged })
    if (mention === undefined) return modelEntry(model)
    const adapter = usable.find((candidate) => candidate.id === mention.refs[0]?.id)
    // `none` is the base, whatever --default-adapter says.
    if (adapter === undefined) return { ...modelEntry(model), id, parent: model.id }
    return { ...adapterEntry(adapter, model), id }
  }

  async function findAdapter(id: string | undefined) {
    const model = requireModel(services)
    const adapter = id === undefined ? undefined : await services.adapters.readNow(id)
    if (adapter !== undefined) return withMerged(adapter, model)
    throw new ServerError('model_not_found', `the adapter ${quote(id)} does not exist`)
  }

  return [
    {
      method: 'GET',
      path: '/v1/models',
      summary: 'The base model and its adapters, in pages',
      handle: async (context) =>
        Response.json(await listModels(readRange(context.req.query(), maxModels))),
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
      summary: 'The adapters with state, digest, rank and provenance, in pages',
      async handle(context) {
        const model = requireModel(services)
        const { adapters, hasMore } = await services.adapters.page(
          readRange(context.req.query(), maxAdapters),
        )
        const listed = adapters.map((adapter) => withMerged(adapter, model))
        return Response.json(listPage(listed, hasMore))
      },
    },
    {
      method: 'GET',
      path: '/v1/adapters/:id',
      summary: 'One adapter',
      handle: async (context) => Response.json(await findAdapter(context.req.param('id'))),
    },
  ]
}
