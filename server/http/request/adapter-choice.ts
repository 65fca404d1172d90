// Which adapters a request runs with: one pure function for every way of naming them.
//
//   ?adapter=a   ?adapter=a:0.8   ?adapter=a,b:0.5   ?adapter=none
//   body: adapter (name, {id|name, scale}, list of up to 4), adapter_id, lora [{id|name, scale}]
//   model: "a", "<base>:a", "<base>:none"
//
// The base model's id, "", null and [] name no adapter: then --default-adapter applies; only `none`
// means none. Places that name adapters must agree in ids and strengths, otherwise 400.

import { z } from 'zod'
import {
  type AdapterRef,
  adapterNamePattern,
  maxAdapterScale,
  maxAdaptersPerRequest,
  type RequiredAdapter,
} from '../../contracts/adapter.ts'
import { ServerError } from '../../errors.ts'
import { quote } from './quote.ts'

/** The fields of a request that may name an adapter, as they came. */
export interface AdapterFields {
  /** Values of ?adapter=, one per occurrence. */
  readonly query: readonly string[]
  readonly model: string
  readonly adapter?: unknown
  readonly adapter_id?: unknown
  readonly lora?: unknown
}

export interface AdapterPolicy {
  readonly baseId: string
  /** Adapter id → default strength. */
  readonly known: ReadonlyMap<string, number>
  readonly defaultAdapter: AdapterRef | null
  readonly required: RequiredAdapter | null
}

export interface AdapterChoice {
  /** Empty means the base model. Every strength is concrete. */
  readonly adapters: ReadonlyArray<{ readonly id: string; readonly scale: number }>
}

/** One place of a request that names adapters; an empty list is an explicit `none`. */
interface Place {
  readonly param: string
  readonly refs: readonly AdapterRef[]
}

const strengthRule = `a number from 0 to ${maxAdapterScale}`

const scaleSchema = z
  .number({ error: `must be ${strengthRule}` })
  .min(0, { error: `must be ${strengthRule}` })
  .max(maxAdapterScale, { error: `must be ${strengthRule}` })
  .nullish()

const entrySchema = z
  .strictObject({ id: z.string().optional(), name: z.string().optional(), scale: scaleSchema })
  .refine(({ id, name }) => (id === undefined) !== (name === undefined), {
    error: 'must hold either id or name',
  })

const invalid = (param: string, message: string) =>
  new ServerError('invalid_value', `${param} ${message}`, { param })

const checkName = (param: string, name: string): string => {
  if (adapterNamePattern.test(name)) return name
  throw invalid(
    param,
    `must be an adapter name of 1–64 letters, digits, ".", "_" or "-"; got ${quote(name)}`,
  )
}

/** "a" or "a:0.8". */
const parseSpec = (param: string, spec: string): AdapterRef => {
  const colon = spec.indexOf(':')
  if (colon < 0) return { id: checkName(param, spec), scale: null }
  const text = spec.slice(colon + 1)
  const scale = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (!(scale <= maxAdapterScale)) {
    throw invalid(param, `must have a strength that is ${strengthRule}; got ${quote(text)}`)
  }
  return { id: checkName(param, spec.slice(0, colon)), scale }
}

const parseEntry = (param: string, value: unknown): AdapterRef => {
  if (typeof value === 'string') return parseSpec(param, value)
  const result = entrySchema.safeParse(value)
  if (result.success) {
    const { id, name, scale } = result.data
    return { id: checkName(param, (id ?? name) as string), scale: scale ?? null }
  }
  const issue = result.error.issues[0]
  const path = [param, ...(issue?.path.map(String) ?? [])].join('.')
  throw new ServerError('invalid_value', `${path}: ${issue?.message}`, { param: path })
}

const parseList = (param: string, values: readonly unknown[]): Place => {
  if (values.length === 1 && values[0] === 'none') return { param, refs: [] }
  if (values.length > maxAdaptersPerRequest) {
    throw invalid(param, `may name at most ${maxAdaptersPerRequest} adapters; got ${values.length}`)
  }
  const refs = values.map((value, i) =>
    parseEntry(values.length === 1 ? param : `${param}.${i}`, value),
  )
  const ids = refs.map(({ id }) => id)
  if (ids.includes('none')) throw invalid(param, 'must name "none" alone, not among adapters')
  if (new Set(ids).size < ids.length) throw invalid(param, 'must name each adapter once')
  return { param, refs }
}

/** Undefined when the place says nothing. */
const parsePlace = (param: string, value: unknown): Place | undefined => {
  if (value === undefined || value === null) return undefined
  if (!Array.isArray(value)) return parseList(param, [value])
  return value.length === 0 ? undefined : parseList(param, value)
}

const parseQuery = (query: readonly string[]): Place | undefined =>
  query.length === 0 ? undefined : parseList('adapter', query.join(',').split(','))

const parseModel = (model: string, policy: AdapterPolicy): Place | undefined => {
  if (model === '' || model === policy.baseId) return undefined
  const name = model.startsWith(`${policy.baseId}:`) ? model.slice(policy.baseId.length + 1) : model
  if (name === 'none' && name !== model) return { param: 'model', refs: [] }
  if (policy.known.has(name)) return { param: 'model', refs: [{ id: name, scale: null }] }
  throw new ServerError(
    'model_not_found',
    `the model ${quote(model)} does not exist; GET /v1/models lists what does`,
    { param: 'model' },
  )
}

/** Names of adapters a request mentions, right or wrong: those worth a fresh look at the folder. */
export const mentionedNames = (fields: AdapterFields, baseId: string): readonly string[] => {
  const { query, model, adapter, adapter_id, lora } = fields
  const names = [...query.join(',').split(',')]
  for (const value of [adapter, adapter_id, lora].flat()) {
    if (typeof value === 'string') names.push(value)
    else if (typeof value === 'object' && value !== null) {
      const { id, name } = value as { id?: unknown; name?: unknown }
      names.push(String(id ?? name))
    }
  }
  const ofModel = model.startsWith(`${baseId}:`) ? model.slice(baseId.length + 1) : model
  if (model !== baseId) names.push(ofModel)
  return names
    .map((name) => name.split(':', 1)[0] as string)
    .filter((name) => adapterNamePattern.test(name) && name !== 'none')
}

export const chooseAdapters = (fields: AdapterFields, policy: AdapterPolicy): AdapterChoice => {
  const { known, required, defaultAdapter } = policy

  // 1. What each place names.
  const places = [
    parseQuery(fields.query),
    parsePlace('adapter', fields.adapter),
    parsePlace('adapter_id', fields.adapter_id),
    parsePlace('lora', fields.lora),
    parseModel(fields.model, policy),
  ].filter((place) => place !== undefined)

  // 2. Every name exists, every strength is concrete. Unspecified, the required adapter's strength
  //    is at least its minimum.
  const defaultScale = (id: string): number => {
    const scale = known.get(id) ?? 1
    return id === required?.id ? Math.max(scale, required.minScale ?? scale) : scale
  }
  const resolve = (place: Place) =>
    place.refs.map(({ id, scale }) => {
      if (known.has(id)) return { id, scale: scale ?? defaultScale(id) }
      throw new ServerError(
        'model_not_found',
        `the adapter ${quote(id)} does not exist; GET /v1/adapters lists what does`,
        { param: place.param },
      )
    })
  const [first, ...others] = places.map((place) => ({ place, adapters: resolve(place) }))

  // 3. The places agree.
  const canonical = (adapters: readonly AdapterRef[]) =>
    JSON.stringify(adapters.map(({ id, scale }) => [id, scale]).sort())
  for (const other of others) {
    if (first === undefined || canonical(first.adapters) === canonical(other.adapters)) continue
    throw new ServerError(
      'adapter_conflict',
      `${first.place.param} and ${other.place.param} name different adapters or strengths; name them in one place`,
      { param: other.place.param },
    )
  }

  // 4. A silent request gets the operator's adapters; an outspoken one must hold the required adapter.
  if (first === undefined) return { adapters: silentAdapters({ defaultAdapter, required, known }) }
  if (required === null) return { adapters: first.adapters }
  const minScale = required.minScale ?? known.get(required.id) ?? 1
  const given = first.adapters.find(({ id }) => id === required.id)
  if (given !== undefined && given.scale >= minScale) return { adapters: first.adapters }
  throw new ServerError(
    'adapter_required',
    `every request here runs with the adapter ${quote(required.id)} at strength ${minScale} or more; name it so or name none at all`,
    { param: first.place.param },
  )
}

const silentAdapters = (
  policy: Pick<AdapterPolicy, 'defaultAdapter' | 'required' | 'known'>,
): AdapterChoice['adapters'] => {
  const { defaultAdapter, required, known } = policy
  const adapters = new Map<string, number>()
  if (defaultAdapter !== null) {
    const scale = known.get(defaultAdapter.id)
    if (scale === undefined) throw missing(defaultAdapter.id)
    adapters.set(defaultAdapter.id, defaultAdapter.scale ?? scale)
  }
  if (required !== null) {
    const scale = known.get(required.id)
    if (scale === undefined) throw missing(required.id)
    adapters.set(
      required.id,
      Math.max(adapters.get(required.id) ?? scale, required.minScale ?? scale),
    )
  }
  return [...adapters].map(([id, scale]) => ({ id, scale }))
}

// The operator's adapter vanished from its folder: never run without it.
const missing = (id: string) =>
  new ServerError('server_error', `the adapter ${quote(id)} that this server applies is missing`)
