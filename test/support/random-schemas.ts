// JSON Schemas such as clients send, made at random of the words that answers can be decoded by. Each can
// be satisfied by a short text, so that an answer of a few hundred tokens can end.

import fc from 'fast-check'

type Schema = Readonly<Record<string, unknown>>

const name = fc.constantFrom('name', 'age', 'kind', 'tags', 'e-mail', 'größe', 'a"b', 'x', 'id', '')
const word = fc.constantFrom('yes', 'no', 'a b', 'ß', '"', '\\', 'line\nline', '42', '')

const strings: fc.Arbitrary<Schema> = fc
  .oneof(
    fc.record({ minLength: fc.nat(3), maxLength: fc.integer({ min: 3, max: 12 }) }),
    fc.record({
      pattern: fc.constantFrom('^[a-z]{1,6}$', '^a|b$', '\\d{3}', '^(x[yz]?){2,4}$', '^[^"]{0,5}$'),
    }),
    fc.record({
      pattern: fc.constantFrom('[0-9]', '^\\w+$'),
      maxLength: fc.integer({ min: 2, max: 8 }),
    }),
    fc.record({
      format: fc.constantFrom('date', 'time', 'uuid', 'ipv4', 'ipv6'),
    }),
    fc
      .record({ format: fc.constantFrom('date-time', 'email', 'hostname', 'duration', 'uri') })
      .map(({ format }) => ({ format, maxLength: 40 })),
  )
  .map((words) => ({ type: 'string', ...words }))

const bound = fc.oneof(
  fc.integer({ min: -1200, max: 1200 }),
  fc.integer({ min: -9999, max: 9999 }).map((value) => value / 8),
)

/** A lower bound, an upper one, both or none, of either kind. */
const range = fc
  .record({
    low: fc.option(bound),
    width: fc.option(fc.integer({ min: 1, max: 2500 })),
    isOpen: fc.boolean(),
  })
  .map(({ low, width, isOpen }) => ({
    ...(low === null ? {} : { [isOpen ? 'exclusiveMinimum' : 'minimum']: low }),
    ...(width === null
      ? {}
      : { [isOpen ? 'maximum' : 'exclusiveMaximum']: (low ?? 0) + width + 2 }),
  }))

const numbers: fc.Arbitrary<Schema> = fc.oneof(
  range.map((words) => ({ type: 'number', ...words })),
  range.map((words) => ({ type: 'integer', ...words })),
  fc
    .integer({ min: 1, max: 12 })
    .map((multipleOf) => ({ type: 'integer', minimum: 0, maximum: 500, multipleOf })),
)

const values: fc.Arbitrary<Schema> = fc.oneof(
  fc
    .uniqueArray(fc.oneof(word, fc.integer(), fc.constantFrom(null, true, { a: [1, 'x'] }, [])), {
      minLength: 1,
      maxLength: 6,
      selector: (value) => JSON.stringify(value),
    })
    .map((list) => ({ enum: list })),
  word.map((value) => ({ const: value })),
  fc
    .uniqueArray(word, { minLength: 1, maxLength: 4 })
    .map((list) => ({ type: 'string', enum: list })),
)

const leaf = fc.oneof(
  strings,
  numbers,
  values,
  fc.constantFrom<Schema[]>(
    { type: 'boolean' },
    { type: 'null' },
    { type: ['string', 'null'], maxLength: 6 },
  ),
)

const schemas = fc.letrec<{ schema: Schema }>((tie) => {
  const inner = fc.oneof({ maxDepth: 2, depthIdentifier: 'schema' }, leaf, tie('schema'))
  const objects = fc
    .record({
      properties: fc.dictionary(name, inner, { maxKeys: 4, noNullPrototype: true }),
      keep: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      other: fc.oneof(fc.constantFrom<(boolean | undefined)[]>(false, undefined), leaf),
      counts: fc.boolean(),
    })
    .map(({ properties, keep, other, counts }) => {
      const required = Object.keys(properties).filter((_, i) => keep[i])
      return {
        type: 'object',
        properties,
        required,
        ...(other === undefined ? {} : { additionalProperties: other }),
        maxProperties: counts ? required.length + 1 : 6,
      }
    })
  const arrays = fc.oneof(
    fc.record({ items: inner, min: fc.nat(2), more: fc.nat(3) }).map(({ items, min, more }) => ({
      type: 'array',
      items,
      minItems: min,
      maxItems: min + more,
    })),
    fc
      .record({
        prefixItems: fc.array(inner, { minLength: 1, maxLength: 3 }),
        isShort: fc.boolean(),
      })
      .map(({ prefixItems, isShort }) => ({
        type: 'array',
        prefixItems,
        items: false,
        minItems: isShort ? 0 : prefixItems.length,
      })),
  )
  const maps = fc
    .record({ value: leaf, key: fc.constantFrom('^[a-z]{1,4}$', '^k') })
    .map(({ value, key }) => ({
      type: 'object',
      patternProperties: { [key]: value },
      additionalProperties: false,
      maxProperties: 3,
      propertyNames: { maxLength: 6 },
    }))
  const unions = fc.oneof(
    fc.array(inner, { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
    fc.record({ a: inner, b: inner }).map(({ a, b }) => ({
      oneOf: [tagged('a', a), tagged('b', b)],
    })),
    fc
      .record({ a: numbers, b: range })
      .map(({ a }) => ({ allOf: [a, { type: ['number', 'integer'] }] })),
  )
  const recursive = leaf.map((value) => ({
    $ref: '#/$defs/node',
    $defs: {
      node: {
        type: 'object',
        properties: { value, next: { anyOf: [{ type: 'null' }, { $ref: '#/$defs/node' }] } },
        required: ['value', 'next'],
        additionalProperties: false,
      },
    },
  }))
  return { schema: fc.oneof(objects, objects, arrays, maps, unions, leaf, recursive) }
}).schema

function tagged(kind: string, value: Schema): Schema {
  return {
    type: 'object',
    properties: { kind: { const: kind }, value },
    required: ['kind', 'value'],
    additionalProperties: false,
  }
}

/** A reference names a place in the whole document: only a root may have one. */
function isWhole(schema: Schema): boolean {
  return !JSON.stringify(Object.values(schema)).includes('"$defs"') || schema.$ref !== undefined
}

/** Schemas that are told apart, the same each time. */
export function randomSchemas(seed: number, count: number): readonly string[] {
  const found = new Set<string>()
  for (let more = 0; found.size < count; more++) {
    for (const schema of fc.sample(schemas, { seed: seed + more, numRuns: count })) {
      if (found.size < count && isWhole(schema)) found.add(JSON.stringify(schema))
    }
  }
  return [...found]
}
