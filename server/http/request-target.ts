// What a request says, whose it is, and which model and adapters it is for: its body and query against
// what the engine has.

import type { AdapterSelection } from '../contracts/adapter.ts'
import type { ModelInfo } from '../contracts/engine.ts'
import type { JsonObject } from '../contracts/json.ts'
import { escapeUnprinted } from '../contracts/printable.ts'
import { modelLoading, ServerError } from '../errors.ts'
import { clientName } from './access/auth.ts'
import { type HttpConfig, incomingOf, type RequestContext, type Services } from './context.ts'
import { chooseAdapters, mentionedNames } from './request/adapter-choice.ts'
import { readJsonObject } from './request/body.ts'
import { readQuery } from './request/query.ts'
import { quote } from './request/quote.ts'
import { type Floor, floorOf } from './safety/floor.ts'
import { createPace } from './wire/pace.ts'

/** `mayBeMissing`: no body is one without fields. */
export async function readJson(
  context: RequestContext,
  { config }: Services,
  { mayBeMissing = false } = {},
): Promise<JsonObject> {
  if (mayBeMissing && !hasBody(context)) return {}
  return readJsonObject(context.req.raw, {
    maxBytes: config.maxBody,
    incoming: incomingOf(context),
    rest: createPace().step,
  })
}

function hasBody(context: RequestContext): boolean {
  const { headers, body } = context.req.raw
  const hasLength = headers.has('content-length') || headers.has('transfer-encoding')
  const isSocketEmpty = incomingOf(context) !== undefined && !hasLength
  return body !== null && !isSocketEmpty && headers.get('content-length') !== '0'
}

/** Who asks, as turns and limits know them. */
export function clientOf(context: RequestContext, { clientHeader }: HttpConfig): string {
  return clientName({
    caller: context.get('caller'),
    address: incomingOf(context)?.socket.remoteAddress,
    forwarded: clientHeader === null ? undefined : context.req.header(clientHeader),
  })
}

/** What this request may not go below, by the flags and by its key. */
export function floorFor(context: RequestContext, { config }: Services): Floor {
  return floorOf(config, context.get('caller').key?.floor ?? null)
}

/** The loaded model; until there is one, nothing can be answered. */
export function requireModel(services: Services): ModelInfo {
  const { model } = services.engine
  if (model !== undefined) return model
  throw modelLoading()
}

/** Throws model_not_found where one of them does not exist. */
export async function requireAdapters(
  { adapters }: Services,
  ids: readonly string[],
  param: string,
): Promise<void> {
  const known = new Set((await adapters.readKnown(ids)).map(({ id }) => id))
  const missing = ids.find((id) => !known.has(id))
  if (missing === undefined) return
  throw new ServerError(
    'model_not_found',
    `the adapter ${quote(missing)} does not exist; GET /v1/adapters lists what does`,
    { param },
  )
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
  const { id: baseId, merged } = requireModel(services)
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
  const { required } = floorFor(context, services)
  const operators = [...required.map(({ id }) => id), config.defaultAdapter?.id]
  // More names than a request may mean are refused whether or not they exist.
  const names = [...new Set(mentionedNames(named, baseId))].slice(0, maxLookedUp)
  const list = await adapters.readKnown([...names, ...operators.filter((id) => id !== undefined)])
  const selection = chooseAdapters(named, {
    baseId,
    known: new Set(list.map(({ id }) => id)),
    defaultAdapter: config.defaultAdapter,
    required,
    merged,
  })
  return { selection, modelName: fields.model === '' ? baseId : fields.model }
}
