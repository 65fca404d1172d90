// JSON Schemas of words thrown together: contradictory ones, ones of other types, ones that say nothing.
// Many are refused; whatever answers the others get has to validate.

import fc from 'fast-check'

const count = fc.integer({ min: 0, max: 4 })
const number = fc.oneof(
  fc.integer({ min: -5, max: 12 }),
  fc.integer({ min: -40, max: 90 }).map((value) => value / 8),
  fc.constantFrom(0, 1e15, -1e15, 0.1, 0.3, 1e-7, 123456.789),
)
const name = fc.constantFrom('a', 'ab', 'b', 'k', '', '"', 'ß')
const fixed = [null, true, '', 'a', 'ab', 'k1', 'ß', 0, -3, 2.5, [], [1], {}, { a: 1 }, { a: [] }]
const value = fc.oneof(fc.constantFrom<unknown>(...fixed), number)
const type = fc.constantFrom('object', 'array', 'string', 'number', 'integer', 'boolean', 'null')
const pattern = fc.constantFrom('^a', 'b$', '^[a-k]{1,3}$', '[0-9]', '^$', '', '^(a|ab)$', 'ß')
const formats = [
  'date',
  'time',
  'date-time',
  'duration',
  'email',
  'hostname',
  'ipv4',
  'ipv6',
  'uri',
]

const { schema } = fc.letrec<{ schema: unknown }>((tie) => {
  const simple = fc.constantFrom<unknown>(true, false, {}, { type: 'null' }, { type: 'string' })
  const inner = fc.oneof({ maxDepth: 3, depthIdentifier: 'soup' }, simple, tie('schema'))
  const list = fc.array(inner, { minLength: 1, maxLength: 2 })
  const tableOf = (key: fc.Arbitrary<string>) =>
    fc
      .uniqueArray(fc.tuple(key, inner), { maxLength: 3, selector: ([one]) => one })
      .map((pairs) => Object.fromEntries(pairs))
  const words = {
    type: fc.oneof(type, fc.uniqueArray(type, { minLength: 1, maxLength: 3 })),
    enum: fc.uniqueArray(value, { minLength: 1, maxLength: 4, selector: (v) => JSON.stringify(v) }),
    const: value,
    ...{ allOf: list, anyOf: list, oneOf: list, prefixItems: list },
    ...{ properties: tableOf(name), patternProperties: tableOf(pattern) },
    ...{ additionalProperties: inner, propertyNames: inner, items: inner },
    ...{ minProperties: count, maxProperties: count, minItems: count, maxItems: count },
    ...{ minLength: count, maxLength: count, uniqueItems: fc.boolean() },
    required: fc.uniqueArray(name, { maxLength: 3 }),
    ...{ pattern, format: fc.constantFrom(...formats) },
    ...{ minimum: number, maximum: number, exclusiveMinimum: number, exclusiveMaximum: number },
    multipleOf: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.constant(0.5)),
    $ref: fc.constantFrom('#', '#/$defs/a'),
  }
  const names = fc.constantFrom(...(Object.keys(words) as (keyof typeof words)[]))
  return {
    schema: fc
      .uniqueArray(names, { minLength: 1, maxLength: 4 })
      .chain((some) => fc.record(Object.fromEntries(some.map((word) => [word, words[word]])))),
  }
})

/** The same each time; `#/$defs/a` is a small whole number. */
export function wordSoups(seed: number, numSoups: number): readonly object[] {
  const $defs = { a: { type: 'integer', maximum: 5 } }
  return fc
    .sample(schema, { seed, numRuns: numSoups })
    .map((soup) => ({ ...(soup as object), $defs }))
}
