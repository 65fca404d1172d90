// The words of JSON Schema (2020-12, and what older drafts call the same). What is in no list here is
// refused by its name: a word that is ignored would promise what the answer does not keep.

import { GrammarError } from '../grammar/expression.ts'

export type Schema = boolean | SchemaObject
export type SchemaObject = Readonly<Record<string, unknown>>

export type TypeName = 'object' | 'array' | 'string' | 'number' | 'integer' | 'boolean' | 'null'
const typeNames = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null']

type Check = (value: unknown) => boolean

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
function isNumber(value: unknown): boolean {
  return typeof value === 'number'
}
function isText(value: unknown): boolean {
  return typeof value === 'string'
}
function isFlag(value: unknown): boolean {
  return typeof value === 'boolean'
}
export function isObject(value: unknown): value is SchemaObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
export function isSchema(value: unknown): value is Schema {
  return typeof value === 'boolean' || isObject(value)
}
function isSchemaList(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.every(isSchema)
}
function isSchemaTable(value: unknown): boolean {
  return isObject(value) && Object.values(value).every(isSchema)
}
function isTextList(value: unknown): boolean {
  return Array.isArray(value) && value.every(isText)
}
function isTypes(value: unknown): boolean {
  const names = Array.isArray(value) ? value : [value]
  return names.length > 0 && names.every((name) => typeNames.includes(name))
}

interface Word {
  readonly check: Check
  readonly expected: string
  /** The types that it says something of; none: it is of any. */
  readonly of: TypeName | null
}

function word(of: TypeName | null, expected: string, check: Check): Word {
  return { of, expected, check }
}

const schema = 'a schema'
const schemas = 'a list of schemas, not empty'
const table = 'an object of schemas'
const count = 'a whole number, 0 or more'

/** Words that are kept to. */
export const words: Readonly<Record<string, Word>> = {
  type: word(null, `one or more of ${typeNames.join(', ')}`, isTypes),
  enum: word(null, 'a list of values, not empty', (v) => Array.isArray(v) && v.length > 0),
  const: word(null, 'a value', () => true),
  allOf: word(null, schemas, isSchemaList),
  anyOf: word(null, schemas, isSchemaList),
  oneOf: word(null, schemas, isSchemaList),
  $ref: word(null, 'a reference', isText),
  properties: word('object', table, isSchemaTable),
  required: word('object', 'a list of names', isTextList),
  additionalProperties: word('object', schema, isSchema),
  patternProperties: word('object', table, isSchemaTable),
  propertyNames: word('object', schema, isSchema),
  minProperties: word('object', count, isCount),
  maxProperties: word('object', count, isCount),
  items: word('array', 'a schema, or a list of them', (v) => isSchema(v) || isSchemaList(v)),
  prefixItems: word('array', schemas, isSchemaList),
  additionalItems: word('array', schema, isSchema),
  minItems: word('array', count, isCount),
  maxItems: word('array', count, isCount),
  uniqueItems: word('array', 'true or false', isFlag),
  minLength: word('string', count, isCount),
  maxLength: word('string', count, isCount),
  pattern: word('string', 'an expression', isText),
  format: word('string', 'the name of a format', isText),
  minimum: word('number', 'a number', isNumber),
  maximum: word('number', 'a number', isNumber),
  exclusiveMinimum: word('number', 'a number', isNumber),
  exclusiveMaximum: word('number', 'a number', isNumber),
  multipleOf: word('number', 'a number above 0', (v) => isNumber(v) && (v as number) > 0),
}

/** Words that say nothing about what is valid, or hold what $ref names. */
const annotations: readonly string[] = [
  ...['title', 'description', 'default', 'examples', 'example', 'deprecated', 'readOnly'],
  ...['writeOnly', '$comment', '$schema', '$id', '$anchor', '$defs', 'definitions'],
  ...['discriminator', 'contentMediaType', 'contentEncoding', '$vocabulary'],
]

/** Throws GrammarError where a word is unknown or its value is not its own. */
export function requireWords(schema: SchemaObject, pointer: string): void {
  for (const [name, value] of Object.entries(schema)) {
    if (annotations.includes(name) || name.startsWith('x-')) continue
    const known = Object.hasOwn(words, name) ? words[name] : undefined
    if (known === undefined) {
      throw new GrammarError(
        `${pointer}: answers cannot be decoded by the word ${JSON.stringify(name)}; leave it out, or ` +
          'say the same with the words of docs/STRUCTURED.md',
      )
    }
    if (!known.check(value)) {
      throw new GrammarError(
        `${pointer}/${escapePointer(name)}: ${known.expected} is expected, not ${shown(value)}`,
      )
    }
  }
  if (
    schema.uniqueItems === true &&
    !(typeof schema.maxItems === 'number' && schema.maxItems < 2)
  ) {
    throw new GrammarError(
      `${pointer}/uniqueItems: answers cannot be decoded by it; leave it out, or set maxItems to 1`,
    )
  }
}

export function escapePointer(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1')
}

export function shown(value: unknown): string {
  const json = JSON.stringify(value) ?? String(value)
  return json.length > 60 ? `${json.slice(0, 60)}…` : json
}
