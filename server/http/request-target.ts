// What a request says, whose it is, and which model and adapters it is for: its body and query against
// what the engine has.

import type { AdapterSelection } from '../contracts/adapter.ts'
import type { ModelInfo } from '../contracts/engine.ts'
import type { JsonObject } from '../contracts/json.ts'
import { escapeUnprinted } from '../contracts/printable.ts'
import { modelLoading } from '../errors.ts'
import { clientName } from './auth.ts'
import { type HttpConfig, incomingOf, type RequestContext, type Services } from './context.ts'
import { chooseAdapters, mentionedNames } from './request/adapter-choice.ts'
import { readJsonObject } from './request/body.ts'
import { readQuery } from './request/query.ts'
import { createPace } from './wire/pace.ts'

export function readJson(context: RequestContext, { config }: Services): Promise<JsonObject> {
  return readJsonObject(context.req.raw, {
    maxBytes: config.maxBody,
    incoming: incomingOf(context),
    rest: createPace().step,
  })
}

/** Who asks, as turns and limits know them. */
export function clientOf(context: RequestContext, { apiKey }: HttpConfig): string {
  const address = incomingOf(context)?.socket.remoteAddress
  return clientName(apiKey, { authorization: context.req.header('authorization'), address })
}

/** The loaded model; until there is one, nothing can be answered. */
export function requireModel(services: Services): ModelInfo {
  const { model } = services.engine
  if (model !== undefined) return model
  throw modelLoading()
}

const maxLookedUp = 32

interface TargetFields {
  readonly model: string
  readonly adapter?: unknown
  readonly adapter_id?: unknown
  readonly lora?: unknown
}

export async function resolveTarget(
  context: RequestContext,
  services: Services,
  fields: TargetFields,
): Promise<{ readonly selection: AdapterSelection; readonly modelName: string }> {
  const { config, adapters } = services
  const { id: baseId } = requireModel(services)
  const query = readQuery(context.req.queries())
  if (query.unknown.length > 0) {
    const unknownQuery = query.unknown.map(escapeUnprinted)
    context.set('logFields', { ...context.get('logFields'), unknownQuery })
  }
  const named = {
    query: query.adapter,
    model: fields.model,
    adapter: fields.adapter,
    adapter_id: fields.adapter_id,
    lora: fields.lora,
  }
  const operators = [config.requireAdapter?.id, config.defaultAdapter?.id]
  // More names than a request may mean are refused whether or not they exist.
  const names = [...new Set(mentionedNames(named, baseId))].slice(0, maxLookedUp)
  const list = await adapters.readKnown([...names, ...operators.filter((id) => id !== undefined)])
  const selection = chooseAdapters(named, {
    baseId,
    known: new Set(list.map(({ id }) => id)),
    defaultAdapter: config.defaultAdapter,
    required: config.requireAdapter,
  })
  return { selection, modelName: fields.model === '' ? baseId : fields.model }
}
