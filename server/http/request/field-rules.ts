// Applies the table of known fields to a body: bags are unpacked, other spellings read as the field
// they mean, what cannot be done is refused by name. An unknown field is accepted, and its name logged.

import { isObject, type JsonObject } from '../../contracts/json.ts'
import { ServerError } from '../../errors.ts'
import { wrong } from './field-error.ts'
import type { RouteKind, Verdict } from './field-verdict.ts'
import { knownFields } from './known-fields.ts'
import { unknownMessageFields } from './message-fields.ts'
import { quote } from './quote.ts'

export interface ReadFields {
  /** Supported fields only, each under its own name. */
  readonly body: JsonObject
  /** Names of unknown fields for the log, bounded in number and length. */
  readonly unknown: readonly string[]
  /** Known fields that the answer does without. */
  readonly unused: readonly string[]
  /** Field → how the request spells it, where that differs ("options.num_predict"). */
  readonly spellings: ReadonlyMap<string, string>
  /** What else of a place is spelled otherwise, behind its field. */
  readonly inner: InnerSpellings
}

/** Of a route that is read as a chat: the end of a place, and what it is there. */
export type InnerSpellings = ReadonlyArray<readonly [place: RegExp, spelled: string]>

/** How a request spells what a chat has. */
export type Spelling = Pick<ReadFields, 'spellings' | 'inner'>

/** A field as it came, with its place in the body. */
type Entry = readonly [field: string, value: unknown, path: string]

type Of<Kind extends Verdict['kind']> = Extract<Verdict, { readonly kind: Kind }>

const maxLogged = 16
const maxLoggedLength = 64
const streamOptions = new Set([
  'include_usage',
  'continuous_usage_stats',
  'include_obfuscation',
  'include_safety',
])

const verdicts: Readonly<Record<RouteKind, ReadonlyMap<string, Verdict>>> = {
  chat: new Map(Object.entries(knownFields).map(([field, { chat }]) => [field, chat])),
  completions: new Map(
    Object.entries(knownFields).map(([field, { completions }]) => [field, completions]),
  ),
}

/** Every field that is not null; a bag's fields come after those of the body itself. */
function eachEntry(
  body: JsonObject,
  route: RouteKind,
  take: (entry: Entry, verdict: Verdict | undefined) => void,
  prefix = '',
): void {
  const bags: string[] = []
  for (const field of Object.keys(body)) {
    const value = body[field]
    if (value === null) continue
    const verdict = verdicts[route].get(field)
    if (verdict?.kind === 'bag') bags.push(field)
    else take([field, value, prefix === '' ? field : `${prefix}${field}`], verdict)
  }
  for (const field of bags) {
    const path = `${prefix}${field}`
    const bag = body[field]
    if (!isObject(bag)) throw wrong(path, `must be an object of fields; got ${quote(bag)}`)
    eachEntry(bag, route, take, `${path}.`)
  }
}

/** Throws at the first field that asks for something this server does not do. */
export function readFields(body: JsonObject, route: RouteKind): ReadFields {
  const fields = new Map<string, unknown>()
  const spellings = new Map<string, string>()
  const aliases: Array<readonly [Entry, Of<'alias'>]> = []
  const refusals: Array<readonly [Entry, Of<'refused'>]> = []
  const unknown: string[] = []
  const unused: string[] = []

  function supply(field: string, value: unknown, path: string) {
    const verdict = verdicts[route].get(field)
    if (verdict?.kind === 'supported' && verdict.absent.has(value, body)) return
    const present = fields.get(field)
    if (present === undefined) {
      fields.set(field, value)
      if (path !== field) spellings.set(field, path)
    } else if (JSON.stringify(present) !== JSON.stringify(value)) {
      throw disagreement(path, value, spellings.get(field) ?? field, present)
    }
  }

  function note(name: string) {
    if (unknown.length < maxLogged) unknown.push(name.slice(0, maxLoggedLength))
  }

  // 1. Every field by its verdict; those that depend on others wait.
  eachEntry(body, route, (entry, verdict) => {
    const [field, value, path] = entry
    if (verdict === undefined) note(path)
    else if (verdict.kind === 'alias') aliases.push([entry, verdict])
    else if (verdict.kind === 'refused') refusals.push([entry, verdict])
    else if (verdict.kind === 'supported') supply(field, value, path)
    else if (verdict.kind === 'unused' && isFilled(value, path)) unused.push(field)
  })

  // 2. Other spellings agree with the field they mean, and with one another.
  for (const [[, value, path], { of, read, agrees }] of aliases) {
    const meant = read(value, path)
    const present = fields.get(of)
    if (present !== undefined && !agrees(value, present)) {
      throw disagreement(path, value, spellings.get(of) ?? of, present)
    }
    if (meant !== undefined) supply(of, meant, path)
  }

  // 3. Whether a value changes nothing may depend on the supported fields.
  const supported = Object.fromEntries(fields)
  for (const [entry, refusal] of refusals) refuse(entry, refusal, supported)

  for (const key of Object.keys(Object(supported.stream_options))) {
    if (!streamOptions.has(key)) note(`stream_options.${key}`)
  }
  for (const field of unknownMessageFields(supported.messages)) note(`messages.*.${field}`)
  return { body: supported, unknown, unused, spellings, inner: [] }
}

function disagreement(path: string, value: unknown, other: string, present: unknown): ServerError {
  return wrong(
    path,
    `and ${other} must agree; got ${quote(value)} and ${quote(present)}; send one of them`,
  )
}

function refuse(
  [, value, param]: Entry,
  { unless, remedy, code }: Of<'refused'>,
  body: JsonObject,
): void {
  if (unless.has(value, body)) return
  throw new ServerError(
    code,
    `${param} is not supported by this server; got ${quote(value)}; leave it out: ${remedy}`,
    { param },
  )
}

function isFilled(value: unknown, path: string): boolean {
  if (Array.isArray(value)) return value.length > 0
  throw wrong(path, `must be a list; got ${quote(value)}`)
}

/** A place in the body, as the request spells it. */
export function spelledPlace(place: string, { spellings, inner }: Spelling): string {
  const parts = place.split('.')
  // A place may have a spelling of its own: messages.3 → input.5.
  const numParts = [2, 1].find((count) => spellings.has(parts.slice(0, count).join('.'))) ?? 0
  const field = spellings.get(parts.slice(0, numParts).join('.'))
  const outer = [...(field === undefined ? [] : [field]), ...parts.slice(numParts)].join('.')
  return inner.reduce((at, [pattern, spelled]) => at.replace(pattern, spelled), outer)
}

/** The same error, in the words of the request: its own spelling of the field. */
export function spelledOut(error: unknown, spelling: Spelling): unknown {
  if (!(error instanceof ServerError) || error.param === null) return error
  const { param, message: text } = error
  const spelled = spelledPlace(param, spelling)
  if (spelled === param) return error
  const named = [param, param.split('.')[0]!].find((name) => text.startsWith(name))
  const message =
    named === undefined ? text : `${spelledPlace(named, spelling)}${text.slice(named.length)}`
  return new ServerError(error.code, message, { param: spelled })
}
