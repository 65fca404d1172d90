// JSON Schemas as grammars: no text of one is invalid. Valid instances may be refused (they may have other
// orders and forms than an answer gets), invalid ones are never let through.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { describe, it } from 'node:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import { anyObject, parseSchema } from '../server/constraints/schema.ts'
import { GrammarError } from '../server/grammar/expression.ts'
import { buildMachine } from '../server/grammar/machine.ts'
import { createMatcher, type Matcher } from '../server/grammar/matcher.ts'
import { buildTokenTrie } from '../server/grammar/token-trie.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import { randomSchemas } from './support/random-schemas.ts'
import { wordSoups } from './support/word-soups.ts'

const all = { isWritable: () => true }
const bytes = buildTokenTrie({ vocabSize: 256, bytesOf: (id) => Uint8Array.of(id) })

function open(schema: unknown): Matcher {
  return createMatcher(buildMachine(parseSchema(JSON.stringify(schema)), all))
}

function accepts(schema: unknown, text: string): boolean {
  const matcher = open(schema)
  return matcher.read(matcher.start(), Buffer.from(text))?.isFinal ?? false
}

function refusal(schema: unknown): string {
  try {
    open(schema).start()
  } catch (error) {
    assert.ok(error instanceof GrammarError, String(error))
    return error.message
  }
  return assert.fail(`it was taken: ${JSON.stringify(schema)}`)
}

/** A schema that only refers to itself keeps ajv from its end: then nothing is known. */
function isValid(validate: (value: unknown) => unknown, text: string): boolean {
  try {
    return validate(JSON.parse(text)) === true
  } catch (error) {
    if (error instanceof RangeError) return true
    throw error
  }
}

/** A text of the grammar, byte by byte, that wants to end; null: it became too long. */
function randomText(matcher: Matcher, random: () => number, usual = 200): string | null {
  const text: number[] = []
  for (let state = matcher.start(); ; ) {
    if (text.length > 10 * usual) return null
    const bits = new Uint32Array(8)
    const numAllowed = matcher.allow(state, bytes, bits)
    if (state.isFinal && (numAllowed === 0 || random() < 0.5)) return Buffer.from(text).toString()
    assert.ok(numAllowed > 0, `${Buffer.from(text)} cannot go on`)
    const ids = Array.from({ length: 256 }, (_, id) => id).filter(
      (id) => ((bits[id >> 5]! >>> (id & 31)) & 1) === 1,
    )
    const ends = ids.filter((id) => '"}],:0123456789'.includes(String.fromCharCode(id)))
    const isLong = random() < (text.length > usual ? 0.98 : 0.5)
    const from = isLong && ends.length > 0 ? ends : ids
    text.push(from[pick(random, from.length)]!)
    state = matcher.read(state, Uint8Array.of(text.at(-1)!))!
  }
}

interface SuiteGroup {
  readonly description: string
  readonly schema: unknown
  readonly tests: readonly {
    readonly description: string
    readonly data: unknown
    readonly valid: boolean
  }[]
}

/** JSON-Schema-Test-Suite, draft 4. */
function readSuite(): readonly SuiteGroup[] {
  const require = createRequire(import.meta.url)
  const { draft4 } = require('json-schema-test-suite')
  const files = draft4() as { schemas: SuiteGroup[]; optional: boolean }[]
  return files.filter(({ optional }) => !optional).flatMap(({ schemas }) => schemas)
}

describe('JSON-Schema-Test-Suite', () => {
  it('no invalid instance gets through; most valid ones of the words that are kept to do', () => {
    let numValid = 0
    let numTaken = 0
    let numGroups = 0
    for (const { description, schema, tests } of readSuite()) {
      let matcher: Matcher
      try {
        matcher = open(schema)
      } catch (error) {
        assert.ok(error instanceof GrammarError, description)
        continue
      }
      numGroups++
      for (const test of tests) {
        const text = Buffer.from(JSON.stringify(test.data))
        const isTaken = matcher.read(matcher.start(), text)?.isFinal ?? false
        if (!test.valid) assert.ok(!isTaken, `${description}: ${test.description}`)
        else {
          numValid++
          if (isTaken) numTaken++
        }
      }
    }
    assert.ok(numGroups >= 40, `${numGroups} groups`)
    assert.ok(numTaken / numValid > 0.7, `${numTaken} of ${numValid}`)
  })
})

describe('random schemas', () => {
  it('whatever a grammar lets through validates', () => {
    const random = createRandomNumbers(7)
    for (const schema of randomSchemas(7, 120)) {
      const ajv = new Ajv2020({ strict: false })
      formats.default(ajv)
      const validate = ajv.compile(JSON.parse(schema))
      const matcher = open(JSON.parse(schema))
      for (let i = 0; i < 3; i++) {
        const text = randomText(matcher, random)
        if (text === null) continue
        assert.ok(
          validate(JSON.parse(text)),
          `${schema}\n${text}\n${JSON.stringify(validate.errors)}`,
        )
      }
    }
  })

  it('of words thrown together are refused, or whatever their grammar lets through validates', () => {
    const random = createRandomNumbers(5)
    let numTaken = 0
    for (const schema of wordSoups(5, 1500)) {
      let matcher: Matcher
      try {
        matcher = open(schema)
        matcher.start()
      } catch (error) {
        assert.ok(error instanceof GrammarError, `${JSON.stringify(schema)} ${error}`)
        continue
      }
      const ajv = new Ajv2020({ strict: false })
      formats.default(ajv)
      const validate = ajv.compile(schema)
      for (let i = 0; i < 2; i++) {
        const text = randomText(matcher, random, 30)
        if (text === null) continue
        numTaken++
        assert.ok(isValid(validate, text), `${JSON.stringify(schema)}\n${text}`)
      }
    }
    assert.ok(numTaken > 1000, `${numTaken} answers`)
  })

  it('any object is JSON', () => {
    const matcher = createMatcher(buildMachine(anyObject(), all))
    const random = createRandomNumbers(3)
    for (let i = 0; i < 60; i++) {
      const text = randomText(matcher, random)
      if (text === null) continue
      assert.equal(typeof JSON.parse(text), 'object', text)
      assert.ok(JSON.stringify(JSON.parse(text)).isWellFormed())
    }
  })
})

describe('schemas', () => {
  it('keep objects to the properties they name, in their order', () => {
    const properties = { a: { type: 'integer' }, b: { type: 'string' }, c: { type: 'null' } }
    const schema = { type: 'object', properties, required: ['b'] }
    for (const text of ['{"b":"x"}', '{"a":1,"b":""}', '{ "b": "x",\n  "c": null }']) {
      assert.ok(accepts(schema, text), text)
    }
    for (const text of [
      '{}',
      '{"b":"x","a":1}',
      '{"b":"x","d":1}',
      '{"b":"x",}',
      '{"b":"x","b":"y"}',
    ]) {
      assert.ok(!accepts(schema, text), text)
    }
    assert.ok(accepts({ ...schema, additionalProperties: true }, '{"b":"x","d":1}'))
    // One that is declared cannot come again under the rule for others.
    assert.ok(!accepts({ ...schema, additionalProperties: true }, '{"b":"x","b":1}'))
    assert.ok(!accepts({ ...schema, additionalProperties: true }, '{"b":"x","\\u0062":1}'))
  })

  it('merge what holds at once', () => {
    const schema = {
      allOf: [{ $ref: '#/$defs/a' }, { properties: { n: { maximum: 20 } }, required: ['m'] }],
      properties: { n: { type: 'integer' }, m: { enum: [1, 2, 'x'] } },
      $defs: { a: { type: 'object', properties: { n: { minimum: 10 }, m: { type: 'integer' } } } },
    }
    assert.ok(accepts(schema, '{"n":15,"m":1}'))
    for (const text of ['{"n":9,"m":1}', '{"n":21,"m":1}', '{"n":15,"m":"x"}', '{"n":15}']) {
      assert.ok(!accepts(schema, text), text)
    }
  })

  it('may contain themselves', () => {
    const schema = { type: 'array', items: { $ref: '#' }, maxItems: 2 }
    assert.ok(accepts(schema, '[[],[[],[]]]'))
    assert.ok(!accepts(schema, '[[],[],[]]'))
  })

  it('bound numbers of every kind', () => {
    for (const [schema, inside, outside] of [
      [
        { minimum: 3, maximum: 1200 },
        ['3', '1200', '99', '3.5'],
        ['2', '1201', '2.9', '1200.1', '03', '1e2'],
      ],
      [
        { exclusiveMinimum: -1.25, maximum: 0 },
        ['-1.2', '0', '-1.249', '-0.5'],
        ['-1.25', '-1.3', '0.1'],
      ],
      [
        { type: 'integer', minimum: -12, maximum: -3 },
        ['-12', '-3', '-10'],
        ['-13', '-2', '0', '-3.0'],
      ],
      [
        { exclusiveMinimum: 0, exclusiveMaximum: 0.001 },
        ['0.0005', '0.00099'],
        ['0', '0.0', '0.001', '1'],
      ],
      [{ multipleOf: 7, minimum: 1, maximum: 100 }, ['7', '98'], ['1', '0', '105', '77.7']],
      [{ type: 'integer', minimum: 1e20 }, ['100000000000000000000'], ['99999999999999999999']],
    ] as const) {
      for (const text of inside)
        assert.ok(accepts(schema, text), `${JSON.stringify(schema)} ${text}`)
      for (const text of outside)
        assert.ok(!accepts(schema, text), `${JSON.stringify(schema)} ${text}`)
    }
  })

  it('of words that answers cannot be decoded by are refused by the word and its place', () => {
    for (const [schema, named] of [
      [{ not: {} }, '"not"'],
      [{ properties: { a: { if: {} } } }, '#/properties/a'],
      [{ type: 'string', minLenght: 3 }, '"minLenght"'],
      [{ type: 'array', uniqueItems: true }, '#/uniqueItems'],
      [{ contains: {} }, '"contains"'],
      [{ dependentRequired: { a: ['b'] } }, '"dependentRequired"'],
      [{ unevaluatedProperties: false }, '"unevaluatedProperties"'],
      [{ type: 'string', format: 'iban' }, '"iban"'],
      [{ type: 'number', multipleOf: 0.01 }, '#/multipleOf'],
      [{ oneOf: [{ type: 'string' }, { type: 'string', maxLength: 3 }] }, '#/oneOf'],
      // Whatever is no array keeps to the second branch, a string too.
      [{ oneOf: [{ type: 'string' }, { items: false }] }, '#/oneOf'],
      [{ prefixItems: [{}], items: [{}] }, 'prefixItems'],
      [{ prefixItems: [{}], additionalItems: false }, 'additionalItems'],
      [{ $ref: 'https://example.com/schema' }, 'https://example.com/schema'],
      [{ minProperties: 4, type: 'object' }, '#/minProperties'],
      [{ type: 'string', pattern: '(?=a)' }, '#/pattern'],
    ] as const) {
      assert.ok(refusal(schema).includes(named), refusal(schema))
    }
  })

  it('that are none are refused with what they should be', () => {
    for (const [schema, named] of [
      [{ type: 'nonsense' }, '#/type'],
      [{ type: [] }, '#/type'],
      [{ type: 42 }, '#/type'],
      [{ properties: [] }, '#/properties'],
      [{ required: 'a' }, '#/required'],
      [{ minimum: '3' }, '#/minimum'],
      [{ enum: [] }, '#/enum'],
      [{ anyOf: [] }, '#/anyOf'],
      [{ items: 3 }, '#/items'],
      [{ maxLength: -1 }, '#/maxLength'],
      [{ pattern: '((((' }, '#/pattern'],
      [{ $ref: '#/$defs/none' }, '#/$defs/none'],
      [{ $ref: '#' }, 'refers to itself'],
      [
        { $ref: '#/$defs/a', $defs: { a: { $ref: '#/$defs/b' }, b: { $ref: '#/$defs/a' } } },
        'itself',
      ],
      [[], 'a schema is an object'],
      [null, 'a schema is an object'],
    ] as const) {
      assert.ok(refusal(schema).includes(named), refusal(schema))
    }
    assert.throws(() => parseSchema('{'), GrammarError)
  })

  it('that nothing can satisfy are refused', () => {
    for (const schema of [
      false,
      { type: 'integer', minimum: 3, maximum: 2 },
      { type: 'string', enum: ['a'], minLength: 2 },
      { allOf: [{ type: 'string' }, { type: 'null' }] },
      { type: 'object', properties: { a: false }, required: ['a'] },
      { type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] },
      { type: 'array', minItems: 3, maxItems: 2 },
      { type: 'string', minLength: 3, pattern: '^a?$' },
      { type: 'string', minLength: 5, maxLength: 3 },
      { type: 'object', required: ['a'], additionalProperties: false },
      { type: 'number', exclusiveMinimum: 1, exclusiveMaximum: 1 },
    ]) {
      assert.ok(refusal(schema).includes('no text can satisfy it'), refusal(schema))
    }
  })

  it('that are hostile are taken or refused, soon', () => {
    let deep: unknown = { type: 'null' }
    for (let i = 0; i < 3000; i++) deep = { type: 'array', items: deep }
    let chain: Record<string, unknown> = {}
    for (let i = 0; i < 2000; i++) chain = { ...chain, [`d${i}`]: { $ref: `#/$defs/d${i + 1}` } }
    const doubled = Object.fromEntries(
      Array.from({ length: 40 }, (_, i) => [
        `d${i}`,
        {
          anyOf: [
            { $ref: `#/$defs/d${i + 1}` },
            { type: 'array', items: { $ref: `#/$defs/d${i + 1}` } },
          ],
        },
      ]),
    )
    const crossed = {
      allOf: Array.from({ length: 12 }, (_, i) => ({
        anyOf: Array.from({ length: 4 }, (_, j) => ({ properties: { [`p${i}`]: { const: j } } })),
      })),
    }
    for (const schema of [
      deep,
      { $ref: '#/$defs/d0', $defs: chain },
      { $ref: '#/$defs/d0', $defs: { ...doubled, d40: { type: 'null' } } },
      crossed,
      { type: 'string', maxLength: 2 ** 40 },
      { type: 'string', minLength: 2 ** 40 },
      { type: 'string', pattern: '^(a{1,99}){1,99}$', maxLength: 5000 },
      { type: 'array', minItems: 2 ** 40 },
      { type: 'object', properties: {}, required: Array.from({ length: 3000 }, (_, i) => `r${i}`) },
      { enum: Array.from({ length: 20_000 }, (_, i) => `value${i}`) },
      { enum: ['x'.repeat(100_000)] },
      { type: 'integer', minimum: -1e300, maximum: 1e300 },
      { type: 'integer', multipleOf: 1999, minimum: 5 },
      { patternProperties: { '^(a|b|ab)*c': {}, '(x+x+)+y': {}, '[^a]{0,300}z': {} } },
    ]) {
      try {
        open(schema).start()
      } catch (error) {
        assert.ok(error instanceof GrammarError, `${JSON.stringify(schema).slice(0, 80)} ${error}`)
      }
    }
  })
})
