// Which adapters a request runs with: one pure function for every way of naming them.
//
//   ?adapter=a   ?adapter=a:0.8   ?adapter=a,b:0.5   ?adapter=none
//   body: adapter (name, {id|name, scale, from, until}, list of up to 4), adapter_id,
//         lora [{id|name, scale}]
//   model: "a", "<base>:a", "<base>:none"
//
// The base model's id, "", null and [] name no adapter: then --default-adapter applies, and what the
// weights hold; only `none` means none. Fields that name adapters must agree in ids and strengths, otherwise 400; a field
// that names no strength, or no span, agrees with any.

import { z } from 'zod'
import {
  type AdapterRef,
  type AdapterSelection,
  type AdapterSpan,
  adapterNamePattern,
  type MergedAdapter,
  maxAdapterScale,
  maxAdaptersPerRequest,
  type RequiredBy,
} from '../../contracts/adapter.ts'
import { ServerError } from '../../errors.ts'
import { wrong } from './field-error.ts'
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
  /** The ids of the adapters that there are. */
  readonly known: Pick<ReadonlySet<string>, 'has'>
  readonly defaultAdapter: AdapterRef | null
  /** Of the flags and of the key; one adapter may be there twice. */
  readonly required: readonly RequiredBy[]
  /** What the weights hold. */
  readonly merged: readonly MergedAdapter[]
}

/** A field of the request that names adapters; an empty list is an explicit `none`. */
interface Mention {
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
  .strictObject({
    id: z.string().optional(),
    name: z.string().optional(),
    scale: scaleSchema,
    from: z
      .enum(['start', 'answer'], {
        error: 'must be start or answer; "until": "answer" is for prompt and thought alone',
      })
      .nullish(),
    until: z.literal('answer', { error: 'must be answer' }).nullish(),
  })
  .refine(({ id, name }) => (id === undefined) !== (name === undefined), {
    error: 'must hold either id or name',
  })
  .refine(({ from, until }) => from !== 'answer' || until == null, {
    error: 'from and until answer leave nothing of it; send one of them',
  })

type Entry = z.infer<typeof entrySchema>

function checkName(param: string, name: string): string {
  if (adapterNamePattern.test(name)) return name
  throw wrong(
    param,
    `must be an adapter name of 1–64 letters, digits, ".", "_" or "-"; got ${quote(name)}`,
  )
}

/** "a" or "a:0.8". */
export function parseAdapterSpec(param: string, spec: string): AdapterRef {
  const colon = spec.indexOf(':')
  if (colon < 0) return { id: checkName(param, spec), scale: null }
  const text = spec.slice(colon + 1)
  const scale = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (!(scale <= maxAdapterScale)) {
    throw wrong(param, `must have a strength that is ${strengthRule}; got ${quote(text)}`)
  }
  return { id: checkName(param, spec.slice(0, colon)), scale }
}

function spanOf({ from, until }: Entry): AdapterSpan | undefined {
  if (until === 'answer') return 'thought'
  return from === 'answer' ? 'answer' : undefined
}

function parseEntry(param: string, value: unknown): AdapterRef {
  if (typeof value === 'string') return parseAdapterSpec(param, value)
  const result = entrySchema.safeParse(value)
  if (result.success) {
    const { id, name, scale } = result.data
    const span = spanOf(result.data)
    const ref = { id: checkName(param, (id ?? name)!), scale: scale ?? null }
    return span === undefined ? ref : { ...ref, span }
  }
  const issue = result.error.issues[0]
  const path = [param, ...(issue?.path.map(String) ?? [])].join('.')
  throw new ServerError('invalid_value', `${path}: ${issue?.message}`, { param: path })
}

function parseList(param: string, values: readonly unknown[]): Mention {
  if (values.length === 1 && values[0] === 'none') return { param, refs: [] }
  if (values.length > maxAdaptersPerRequest) {
    throw wrong(param, `may name at most ${maxAdaptersPerRequest} adapters; got ${values.length}`)
  }
  const refs = values.map((value, i) =>
    parseEntry(values.length === 1 ? param : `${param}.${i}`, value),
  )
  const ids = refs.map(({ id }) => id)
  if (ids.includes('none')) throw wrong(param, 'must name "none" alone, not among adapters')
  if (new Set(ids).size < ids.length) throw wrong(param, 'must name each adapter once')
  return { param, refs }
}

/** Undefined when the field says nothing. */
function parseField(param: string, value: unknown): Mention | undefined {
  if (value === undefined || value === null) return undefined
  if (!Array.isArray(value)) return parseList(param, [value])
  return value.length === 0 ? undefined : parseList(param, value)
}

function parseQuery(query: readonly string[]): Mention | undefined {
  return query.length === 0 ? undefined : parseList('adapter', query.join(',').split(','))
}

/** Undefined for the base model's own name; throws where there is no such model. */
export function parseModel(
  model: string,
  policy: Pick<AdapterPolicy, 'baseId' | 'known' | 'merged'>,
): Mention | undefined {
  if (model === '' || model === policy.baseId) return undefined
  const name = model.startsWith(`${policy.baseId}:`) ? model.slice(policy.baseId.length + 1) : model
  if (name === 'none' && name !== model) return { param: 'model', refs: [] }
  if (isKnown(name, policy)) return { param: 'model', refs: [{ id: name, scale: null }] }
  throw new ServerError(
    'model_not_found',
    `the model ${quote(model)} does not exist; GET /v1/models lists what does`,
    { param: 'model' },
  )
}

/** Names of adapters a request mentions, right or wrong: those worth a fresh look at the folder. */
export function mentionedNames(fields: AdapterFields, baseId: string): readonly string[] {
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
    .map((name) => name.split(':', 1)[0]!)
    .filter((name) => adapterNamePattern.test(name) && name !== 'none')
}

export function chooseAdapters(fields: AdapterFields, policy: AdapterPolicy): AdapterSelection {
  // 1. What each field names.
  const mentions = [
    parseQuery(fields.query),
    parseField('adapter', fields.adapter),
    parseField('adapter_id', fields.adapter_id),
    parseField('lora', fields.lora),
    parseModel(fields.model, policy),
  ].filter((mention) => mention !== undefined)

  // 2. Every name exists, and the fields agree.
  for (const mention of mentions) requireKnown(mention, policy)
  for (const [i, mention] of mentions.entries()) {
    for (const other of mentions.slice(i + 1)) requireAgreement(mention, other)
  }

  // 3. A silent request gets the operator's adapters. Whether an outspoken one holds the required
  //    ones, and strong enough, is for the engine to say: it knows what it loads.
  const [first] = mentions
  const namedIn = first?.param ?? null
  return {
    adapters: first === undefined ? operatorsAdapters(policy) : merge(first, mentions),
    required: policy.required.map((required) => ({ ...required, namedIn })),
  }
}

function isKnown(id: string, { known, merged }: Pick<AdapterPolicy, 'known' | 'merged'>): boolean {
  return known.has(id) || merged.some((one) => one.id === id)
}

function requireKnown({ param, refs }: Mention, policy: AdapterPolicy): void {
  const unknown = refs.find(({ id }) => !isKnown(id, policy))
  if (unknown === undefined) return
  throw new ServerError(
    'model_not_found',
    `the adapter ${quote(unknown.id)} does not exist; GET /v1/adapters lists what does`,
    { param },
  )
}

/** The same ids, and no two strengths or spans for one. A field without one agrees with any. */
function requireAgreement(one: Mention, other: Mention): void {
  const agrees = ({ id, scale, span }: AdapterRef) => {
    const same = other.refs.find((ref) => ref.id === id)
    if (same === undefined) return false
    if (span !== undefined && same.span !== undefined && span !== same.span) return false
    return scale === null || same.scale === null || scale === same.scale
  }
  if (one.refs.length === other.refs.length && one.refs.every(agrees)) return
  throw new ServerError(
    'adapter_conflict',
    `${one.param} and ${other.param} name different adapters or strengths; name them in one place`,
    { param: other.param },
  )
}

/** The adapters of the first field, each with the strength that any of the fields gives it. */
function merge(first: Mention, mentions: readonly Mention[]): readonly AdapterRef[] {
  const all = mentions.flatMap(({ refs }) => refs)
  return first.refs.map(({ id }) => {
    const named = all.filter((ref) => ref.id === id)
    const scale = named.find((ref) => ref.scale !== null)?.scale ?? null
    const span = named.find((ref) => ref.span !== undefined)?.span
    return span === undefined ? { id, scale } : { id, scale, span }
  })
}

function operatorsAdapters(policy: AdapterPolicy): readonly AdapterRef[] {
  const { defaultAdapter, required, merged } = policy
  const refs: AdapterRef[] = defaultAdapter === null ? [] : [defaultAdapter]
  for (const { id } of required) {
    if (!refs.some((ref) => ref.id === id)) refs.push({ id, scale: null })
  }
  for (const { id, scale } of merged) {
    const at = refs.findIndex((ref) => ref.id === id)
    if (at < 0) refs.push({ id, scale })
    else if (refs[at]!.scale === null) refs[at] = { ...refs[at]!, scale }
  }
  // The operator's adapter vanished from its folder: never run without it.
  const missing = refs.find(({ id }) => !isKnown(id, policy))
  if (missing === undefined) return refs
  throw new ServerError(
    'server_error',
    `the adapter ${quote(missing.id)} that this server applies is missing`,
  )
}
