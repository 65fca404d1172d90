// What a request asks of its answer's form: OpenAI's response_format, and what vLLM, SGLang and
// llama.cpp call the same. One of them at a time.

import { z } from 'zod'
import type { OutputConstraint } from '../../contracts/constraint.ts'
import type { GenerateRequest } from '../../contracts/generation.ts'
import { isObject, type JsonObject } from '../../contracts/json.ts'
import { ServerError } from '../../errors.ts'
import { knowsOnly, wrong } from './field-error.ts'
import type { ReadFields } from './field-rules.ts'
import { quote } from './quote.ts'

const mostChoices = 50_000

const schema = z
  // Not a record: that would leave out a word __proto__, which is refused by name.
  .union(
    [z.custom<JsonObject>(isObject).meta({ type: 'object' }), z.boolean(), z.string().min(1)],
    {
      error: 'must be a JSON Schema, as an object or as its text',
    },
  )
  .describe('A JSON Schema (docs/STRUCTURED.md)')
const expression = z.string().min(1)
const choices = z.array(z.string()).min(1).max(mostChoices)

const namedSchema = z.strictObject(
  {
    name: z.string().max(64).nullish(),
    description: z.string().nullish(),
    schema,
    strict: z.boolean().nullish(),
  },
  knowsOnly('name', 'description', 'schema', 'strict'),
)

const responseFormat = z.discriminatedUnion(
  'type',
  [
    z.strictObject({ type: z.literal('text') }, knowsOnly('type')),
    // With a schema: llama.cpp's spelling, and that of others.
    z.strictObject(
      { type: z.literal('json_object'), schema: schema.nullish() },
      knowsOnly('type', 'schema'),
    ),
    z.strictObject(
      {
        type: z.literal('json_schema'),
        json_schema: namedSchema.nullish(),
        schema: schema.nullish(),
      },
      knowsOnly('type', 'json_schema', 'schema'),
    ),
  ],
  { error: 'must have the type "text", "json_object" or "json_schema"' },
)

const structuredOutputs = z.strictObject(
  {
    json: schema.nullish(),
    regex: expression.nullish(),
    choice: choices.nullish(),
    grammar: expression.nullish(),
    json_object: z.boolean().nullish(),
    disable_fallback: z.boolean().nullish(),
    disable_any_whitespace: z.literal(false).nullish(),
    disable_additional_properties: z.literal(false).nullish(),
    whitespace_pattern: z.null().optional(),
    structural_tag: z.null().optional(),
  },
  { error: 'may hold json, regex, choice, grammar or json_object' },
)

/** Fields of both routes. */
export const formatFields = {
  response_format: responseFormat.nullish(),
  structured_outputs: structuredOutputs.nullish(),
  guided_json: schema.nullish(),
  guided_regex: expression.nullish(),
  guided_choice: choices.nullish(),
  guided_grammar: expression.nullish(),
  json_schema: schema.nullish(),
  grammar: expression.nullish(),
  regex: expression.nullish(),
  ebnf: expression.nullish(),
}

type SchemaFormat = Exclude<z.infer<typeof responseFormat>, { type: 'text' }>
export type FormatFields = z.infer<z.ZodObject<typeof formatFields>>

interface Asked {
  readonly field: string
  readonly constraint: OutputConstraint
}

/** Throws ServerError where a request asks for two forms at once. */
export function resolveFormat(
  fields: FormatFields,
  { spellings }: Pick<ReadFields, 'spellings'>,
): Pick<GenerateRequest, 'constraint' | 'constraintField'> {
  const [asked, other] = formsOf(fields)
  if (asked === undefined) return { constraint: null }
  if (other !== undefined) {
    throw new ServerError(
      'invalid_value',
      `${other.field} and ${asked.field} both say what the answer looks like; send one of them`,
      { param: other.field },
    )
  }
  const [root = '', ...rest] = asked.field.split('.')
  const field = [spellings.get(root) ?? root, ...rest].join('.')
  return { constraint: asked.constraint, constraintField: field }
}

function formsOf(fields: FormatFields): Asked[] {
  const { response_format: format, structured_outputs: outputs } = fields
  const forms: Asked[] = []

  function add<Value>(
    field: string,
    value: Value | null | undefined,
    read: (value: Value, field: string) => OutputConstraint,
  ): void {
    if (value !== null && value !== undefined) forms.push({ field, constraint: read(value, field) })
  }

  if (format != null && format.type !== 'text') {
    add('response_format', format, () => constraintOf(format))
  }
  add('structured_outputs.json', outputs?.json, ofSchema)
  add('structured_outputs.regex', outputs?.regex, ofRegex)
  add('structured_outputs.choice', outputs?.choice, ofChoices)
  add('structured_outputs.grammar', outputs?.grammar, ofGrammar)
  if (outputs?.json_object === true) add('structured_outputs.json_object', true, () => anyObject)
  add('guided_json', fields.guided_json, ofSchema)
  add('guided_regex', fields.guided_regex, ofRegex)
  add('guided_choice', fields.guided_choice, ofChoices)
  add('guided_grammar', fields.guided_grammar, ofGrammar)
  add('json_schema', fields.json_schema, ofSchema)
  add('grammar', fields.grammar, ofGrammar)
  add('regex', fields.regex, ofRegex)
  add('ebnf', fields.ebnf, ofGrammar)
  return forms
}

const anyObject: OutputConstraint = { kind: 'json_object' }

function constraintOf(format: SchemaFormat): OutputConstraint {
  const { schema } = format
  if (format.type === 'json_object') return schema == null ? anyObject : ofSchema(schema)
  const { json_schema: named } = format
  if (named != null && schema != null) {
    throw wrong('response_format.schema', 'and response_format.json_schema say the same; send one')
  }
  if (named?.strict === true) requireStrict(named.schema, 'response_format.json_schema.schema')
  const given = named?.schema ?? schema
  if (given == null) {
    throw wrong('response_format.json_schema', 'must hold the schema; it is missing')
  }
  return ofSchema(given)
}

function ofSchema(schema: unknown): OutputConstraint {
  return {
    kind: 'json_schema',
    schema: typeof schema === 'string' ? schema : JSON.stringify(schema),
  }
}

function ofRegex(pattern: string): OutputConstraint {
  return { kind: 'regex', pattern }
}

function ofChoices(all: readonly string[], field: string): OutputConstraint {
  const lone = all.findIndex((text) => !text.isWellFormed())
  if (lone < 0) return { kind: 'choice', choices: all }
  throw wrong(`${field}.${lone}`, `must be text; got ${quote(all[lone])}`)
}

function ofGrammar(text: string): OutputConstraint {
  return { kind: 'grammar', text }
}

// ---- What OpenAI asks of a schema with "strict": true ----

const deepest = 100
const tables = ['properties', '$defs', 'definitions']
const lists = ['anyOf', 'oneOf', 'allOf', 'prefixItems']
const singles = ['items', 'not']

/** Throws ServerError; what is no schema at all the engine tells. */
function requireStrict(schema: unknown, param: string): void {
  let value = schema
  if (typeof schema === 'string') {
    try {
      value = JSON.parse(schema)
    } catch {
      return
    }
  }
  if (isObject(value) && value.type !== 'object' && value.$ref === undefined) {
    throw notStrict(param, '', `must be of the type object; got ${quote(value.type ?? null)}`)
  }
  look(value, param, '', 0)
}

function notStrict(param: string, path: string, rule: string): ServerError {
  const at = path === '' ? 'its root' : path
  return new ServerError(
    'invalid_value',
    `${param}: with "strict": true ${at} ${rule}; change it, or leave "strict" out`,
    { param },
  )
}

function look(schema: unknown, param: string, path: string, depth: number): void {
  if (!isObject(schema) || depth > deepest) return
  const { properties } = schema
  const isOfObjects = [schema.type].flat().includes('object') || properties !== undefined
  if (isOfObjects) requireClosed(schema, param, path)
  for (const name of tables) {
    const table = schema[name]
    for (const [key, inner] of Object.entries(isObject(table) ? table : {})) {
      look(inner, param, `${path}/${name}/${key}`, depth + 1)
    }
  }
  for (const name of lists) {
    const list = schema[name]
    for (const [i, inner] of Array.isArray(list) ? list.entries() : []) {
      look(inner, param, `${path}/${name}/${i}`, depth + 1)
    }
  }
  for (const name of singles) look(schema[name], param, `${path}/${name}`, depth + 1)
}

function requireClosed(schema: Record<string, unknown>, param: string, path: string): void {
  if (schema.additionalProperties !== false) {
    throw notStrict(param, path, 'must have "additionalProperties": false')
  }
  const required = Array.isArray(schema.required) ? schema.required : []
  const names = Object.keys(isObject(schema.properties) ? schema.properties : {})
  const missing = names.find((name) => !required.includes(name))
  if (missing !== undefined) {
    throw notStrict(
      param,
      path,
      `must name ${quote(missing)} in "required", as all of its properties`,
    )
  }
}
