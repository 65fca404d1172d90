// Schemas that hold at once: a schema with what it refers to and what its allOf says, laid flat. Each is
// known by its place in the document, so that the same ones together are the same rule.

import { GrammarError } from '../grammar/expression.ts'
import {
  escapePointer,
  isObject,
  isSchema,
  requireWords,
  type Schema,
  type SchemaObject,
} from './words.ts'

/** A schema at its place. */
export interface Located {
  readonly schema: Schema
  /** A JSON pointer, from `#`. */
  readonly pointer: string
  /** What it is known by: not by its place alone, where words of it are taken out. */
  readonly key: string
}

/** One of these holds (anyOf, oneOf). */
export interface Group {
  readonly pointer: string
  readonly branches: readonly Located[]
  readonly isExclusive: boolean
}

interface Base extends Located {
  readonly schema: SchemaObject
}

export interface Conjunction {
  /** Without $ref, allOf, anyOf and oneOf. */
  readonly bases: readonly Base[]
  readonly groups: readonly Group[]
  /** `false` is among them. */
  readonly isNever: boolean
}

const deepest = 400

export function at({ schema, pointer }: Located, ...path: ReadonlyArray<string | number>): Located {
  let value: unknown = schema
  let place = pointer
  for (const part of path) {
    value = (value as SchemaObject)[part]
    place += `/${escapePointer(String(part))}`
  }
  return locate(value as Schema, place)
}

export function locate(schema: Schema, pointer: string): Located {
  return { schema, pointer, key: pointer }
}

/** `more`: of which one holds, too. Throws GrammarError. */
export function flatten(
  all: readonly Located[],
  root: Schema,
  more: readonly Group[] = [],
): Conjunction {
  const bases: Base[] = []
  const groups: Group[] = []
  const seen = new Set<string>()
  let isNever = false

  function add(located: Located, path: readonly string[]): void {
    const { schema, pointer, key } = located
    if (path.includes(key)) {
      throw new GrammarError(`${pointer} refers to itself and says nothing else: end the circle`)
    }
    if (path.length > deepest) {
      throw new GrammarError(`${pointer}: references are nested more than ${deepest} deep`)
    }
    if (seen.has(key)) return
    seen.add(key)
    if (schema === false) isNever = true
    if (!isObject(schema)) return
    requireWords(schema, pointer)
    const { $ref, allOf, anyOf, oneOf, ...base } = schema
    const inner = [...path, key]
    if (typeof $ref === 'string') add(resolve(root, $ref, pointer), inner)
    for (const i of indexesOf(allOf)) add(at(located, 'allOf', i), inner)
    for (const [name, list] of Object.entries({ anyOf, oneOf })) {
      if (list === undefined) continue
      groups.push({
        pointer: `${pointer}/${name}`,
        branches: indexesOf(list).map((i) => at(located, name, i)),
        isExclusive: name === 'oneOf',
      })
    }
    const isWhole = [$ref, allOf, anyOf, oneOf].every((word) => word === undefined)
    bases.push({ schema: base, pointer, key: isWhole ? key : `${key}!` })
  }

  for (const located of all) add(located, [])
  return { bases, groups: [...groups, ...more], isNever }
}

function indexesOf(list: unknown): number[] {
  return Array.isArray(list) ? [...list.keys()] : []
}

/** What a reference within the document names. */
function resolve(root: Schema, reference: string, pointer: string): Located {
  if (reference === '#') return locate(root, '#')
  const found = reference.startsWith('#/') ? follow(root, reference) : anchored(root, reference)
  if (found === undefined || !isSchema(found.schema)) {
    throw new GrammarError(
      `${pointer}/$ref: ${JSON.stringify(reference)} names no schema of this document; only ` +
        'references such as #/$defs/name can be followed',
    )
  }
  return found
}

function follow(root: Schema, reference: string): Located | undefined {
  let value: unknown = root
  let pointer = '#'
  for (const part of reference.slice(2).split('/')) {
    const name = decode(part).replaceAll('~1', '/').replaceAll('~0', '~')
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
    value = (value as SchemaObject)[name]
    pointer += `/${escapePointer(name)}`
  }
  return locate(value as Schema, pointer)
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

/** `#name`, of a schema in $defs or definitions. */
function anchored(root: Schema, reference: string): Located | undefined {
  if (!reference.startsWith('#') || !isObject(root)) return undefined
  for (const table of ['$defs', 'definitions']) {
    for (const [name, schema] of Object.entries(isObject(root[table]) ? root[table] : {})) {
      if (!isObject(schema) || schema.$anchor !== reference.slice(1)) continue
      return locate(schema, `#/${table}/${escapePointer(name)}`)
    }
  }
  return undefined
}
