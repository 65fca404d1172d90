// Every way of naming an adapter, alone and against each other, as a table: what the front chooses, and
// how strong the engine then makes it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { decideStrengths } from '../server/adapters/strength.ts'
import type { ErrorCode } from '../server/errors.ts'
import { ServerError } from '../server/errors.ts'
import {
  type AdapterFields,
  type AdapterPolicy,
  chooseAdapters,
  mentionedNames,
} from '../server/http/request/adapter-choice.ts'

const defaultStrengths = new Map([
  ['a', 1],
  ['b', 0.5],
  ['c', 1],
  ['d', 1],
  ['e', 1],
])

const by = 'flags'
const open: AdapterPolicy = {
  baseId: 'tiny',
  known: defaultStrengths,
  defaultAdapter: null,
  required: [],
  merged: [],
}
const withDefault: AdapterPolicy = { ...open, defaultAdapter: { id: 'b', scale: null } }
const withRequired: AdapterPolicy = { ...open, required: [{ id: 'a', minScale: 0.8, by }] }

/** Id → strength, as the engine runs them. */
function outcomeOf(fields: AdapterFields, policy: AdapterPolicy): Record<string, number> {
  const selection = chooseAdapters(fields, policy)
  const ids = selection.adapters.map(({ id }) => id)
  const strengths = decideStrengths(
    selection,
    ids.map((id) => defaultStrengths.get(id)!),
  )
  return Object.fromEntries(ids.map((id, i) => [id, strengths[i]!]))
}

type Given = Partial<AdapterFields>
type Expected = Record<string, number> | { error: ErrorCode; param?: string }

const query = (...values: string[]): Given => ({ query: values })

const table: ReadonlyArray<readonly [string, AdapterPolicy, Given, Expected]> = [
  // Silence
  ['the base id says nothing', open, {}, {}],
  ['an empty model says nothing', open, { model: '' }, {}],
  ['null says nothing', open, { adapter: null, adapter_id: null, lora: null }, {}],
  ['an empty list says nothing', open, { adapter: [], lora: [] }, {}],
  ['silence gets the default adapter', withDefault, {}, { b: 0.5 }],
  ['none means none', withDefault, query('none'), {}],
  ['none in the body', withDefault, { adapter: 'none' }, {}],
  ['none in a list', withDefault, { adapter: ['none'] }, {}],
  ['none in the model', withDefault, { model: 'tiny:none' }, {}],

  // One place
  ['query', open, query('a'), { a: 1 }],
  ['query with strength', open, query('a:0.8'), { a: 0.8 }],
  ['query with strength 0', open, query('a:0'), { a: 0 }],
  ['query with strength 4', open, query('a:4'), { a: 4 }],
  ['query list', open, query('a,b:0.25'), { a: 1, b: 0.25 }],
  ['query twice is a list', open, query('a', 'b'), { a: 1, b: 0.5 }],
  ['body name', open, { adapter: 'a' }, { a: 1 }],
  ['body name with strength', open, { adapter: 'a:2' }, { a: 2 }],
  ['body object', open, { adapter: { id: 'a', scale: 0.3 } }, { a: 0.3 }],
  ['body object by name', open, { adapter: { name: 'a' } }, { a: 1 }],
  ['body object, scale null', open, { adapter: { id: 'b', scale: null } }, { b: 0.5 }],
  ['body list', open, { adapter: ['a', { id: 'b' }] }, { a: 1, b: 0.5 }],
  ['body list of four', open, { adapter: ['a', 'b', 'c', 'd'] }, { a: 1, b: 0.5, c: 1, d: 1 }],
  ['adapter_id (LoRAX)', open, { adapter_id: 'a' }, { a: 1 }],
  ['lora (llama.cpp)', open, { lora: [{ id: 'a', scale: 0.5 }] }, { a: 0.5 }],
  ['lora by name', open, { lora: [{ name: 'a', scale: 0.5 }] }, { a: 0.5 }],
  ['model (vLLM)', open, { model: 'a' }, { a: 1 }],
  ['model with base (SGLang)', open, { model: 'tiny:b' }, { b: 0.5 }],

  // Agreement and conflict
  ['two places agree', open, { ...query('a'), model: 'a' }, { a: 1 }],
  [
    'default strength and the same number agree',
    open,
    { ...query('b'), adapter: 'b:0.5' },
    { b: 0.5 },
  ],
  ['lists agree in any order', open, { ...query('a,b'), adapter: ['b', 'a'] }, { a: 1, b: 0.5 }],
  ['the base id conflicts with nothing', open, { ...query('a'), model: 'tiny' }, { a: 1 }],
  ['none twice agrees', open, { ...query('none'), adapter: 'none' }, {}],
  [
    'other adapters conflict',
    open,
    { ...query('a'), adapter: 'b' },
    { error: 'adapter_conflict', param: 'adapter' },
  ],
  [
    'other strengths conflict',
    open,
    { ...query('a:0.5'), adapter_id: 'a:1' },
    { error: 'adapter_conflict', param: 'adapter_id' },
  ],
  ['a name alone agrees with any strength', open, { ...query('a:0.5'), model: 'a' }, { a: 0.5 }],
  [
    'also where the name comes first',
    open,
    { ...query('a'), lora: [{ id: 'a', scale: 2 }] },
    { a: 2 },
  ],
  [
    'strengths of a list may come from two fields',
    open,
    { ...query('a:0.25,b'), adapter: ['b:3', 'a'] },
    { a: 0.25, b: 3 },
  ],
  [
    'two strengths conflict across a name alone',
    open,
    { ...query('a'), adapter: 'a:0.5', lora: [{ id: 'a', scale: 1 }] },
    { error: 'adapter_conflict', param: 'lora' },
  ],
  [
    'none and an adapter conflict',
    open,
    { ...query('none'), model: 'tiny:a' },
    { error: 'adapter_conflict' },
  ],
  [
    'a part of a list conflicts',
    open,
    { ...query('a,b'), adapter_id: 'a' },
    { error: 'adapter_conflict' },
  ],
  [
    'lora against adapter conflicts',
    open,
    { adapter: 'a', lora: [{ id: 'b' }] },
    { error: 'adapter_conflict', param: 'lora' },
  ],

  // Wrong
  ['unknown in the query', open, query('x'), { error: 'model_not_found', param: 'adapter' }],
  [
    'unknown in the body',
    open,
    { adapter_id: 'x' },
    { error: 'model_not_found', param: 'adapter_id' },
  ],
  ['unknown model', open, { model: 'x' }, { error: 'model_not_found', param: 'model' }],
  [
    'unknown adapter of the base',
    open,
    { model: 'tiny:x' },
    { error: 'model_not_found', param: 'model' },
  ],
  [
    'adapter of an unknown base',
    open,
    { model: 'x:a' },
    { error: 'model_not_found', param: 'model' },
  ],
  ['model "none" is no model', open, { model: 'none' }, { error: 'model_not_found' }],
  ['model with strength is no model', open, { model: 'tiny:a:0.5' }, { error: 'model_not_found' }],
  ['an empty query', open, query(''), { error: 'invalid_value', param: 'adapter' }],
  ['an empty name in a list', open, query('a,'), { error: 'invalid_value' }],
  ['an empty adapter', open, { adapter: '' }, { error: 'invalid_value', param: 'adapter' }],
  ['a path', open, { adapter: '../a' }, { error: 'invalid_value' }],
  ['NUL', open, { adapter: 'a\u0000' }, { error: 'invalid_value' }],
  ['a line break', open, query('a\r\nx'), { error: 'invalid_value' }],
  ['65 letters', open, { adapter: 'a'.repeat(65) }, { error: 'invalid_value' }],
  ['__proto__', open, { adapter: '__proto__' }, { error: 'invalid_value' }],
  ['constructor is only unknown', open, { adapter: 'constructor' }, { error: 'model_not_found' }],
  ['none among adapters', open, query('a,none'), { error: 'invalid_value' }],
  ['none with a strength', open, query('none:1'), { error: 'invalid_value' }],
  ['the same twice', open, { adapter: ['a', 'a:2'] }, { error: 'invalid_value' }],
  [
    'five',
    open,
    { adapter: ['a', 'b', 'c', 'd', 'e'] },
    { error: 'invalid_value', param: 'adapter' },
  ],
  ['a number', open, { adapter: 5 }, { error: 'invalid_value', param: 'adapter' }],
  [
    'a number in a list',
    open,
    { adapter: ['a', 5] },
    { error: 'invalid_value', param: 'adapter.1' },
  ],
  ['neither id nor name', open, { adapter: {} }, { error: 'invalid_value' }],
  ['both id and name', open, { adapter: { id: 'a', name: 'a' } }, { error: 'invalid_value' }],
  ['a typo in an object', open, { adapter: { id: 'a', scael: 1 } }, { error: 'invalid_value' }],
  [
    'scale -0.1',
    open,
    { adapter: { id: 'a', scale: -0.1 } },
    { error: 'invalid_value', param: 'adapter.scale' },
  ],
  ['scale 4.1', open, { adapter: { id: 'a', scale: 4.1 } }, { error: 'invalid_value' }],
  [
    'scale Infinity',
    open,
    { adapter: { id: 'a', scale: Number.POSITIVE_INFINITY } },
    { error: 'invalid_value' },
  ],
  ['scale "1"', open, { adapter: { id: 'a', scale: '1' } }, { error: 'invalid_value' }],
  ['query strength NaN', open, query('a:NaN'), { error: 'invalid_value' }],
  ['query strength -1', open, query('a:-1'), { error: 'invalid_value' }],
  ['query strength 1e9', open, query('a:1e9'), { error: 'invalid_value' }],
  ['query strength empty', open, query('a:'), { error: 'invalid_value' }],

  // Required
  ['required: silence gets it at its default', withRequired, {}, { a: 1 }],
  [
    'required: silence gets it at the minimum when that is higher',
    { ...open, required: [{ id: 'b', minScale: 2, by }] },
    {},
    { b: 2 },
  ],
  [
    'required: without a minimum its default is the minimum',
    { ...open, required: [{ id: 'b', minScale: null, by }] },
    {},
    { b: 0.5 },
  ],
  [
    'required beside another default',
    { ...withRequired, defaultAdapter: { id: 'b', scale: null } },
    {},
    { b: 0.5, a: 1 },
  ],
  [
    'required and default in one, weaker by choice',
    { ...withRequired, defaultAdapter: { id: 'a', scale: 0.9 } },
    {},
    { a: 0.9 },
  ],
  [
    'required and default in one, too weak',
    { ...withRequired, defaultAdapter: { id: 'a', scale: 0.1 } },
    {},
    { a: 0.8 },
  ],
  ['required: named strong enough', withRequired, query('a:0.8'), { a: 0.8 }],
  [
    'required: named without strength',
    { ...open, required: [{ id: 'b', minScale: 2, by }] },
    query('b'),
    { b: 2 },
  ],
  ['required: named beside another', withRequired, query('a,b'), { a: 1, b: 0.5 }],
  ['required: none', withRequired, query('none'), { error: 'adapter_required', param: 'adapter' }],
  [
    'required: base:none',
    withRequired,
    { model: 'tiny:none' },
    { error: 'adapter_required', param: 'model' },
  ],
  [
    'required: a second field without strength does not strengthen a weak one',
    withRequired,
    { ...query('a'), adapter: 'a:0.5' },
    { error: 'adapter_required', param: 'adapter' },
  ],
  [
    'required: its default is the minimum also of a strength that is named',
    { ...open, required: [{ id: 'b', minScale: null, by }] },
    query('b:0.49'),
    { error: 'adapter_required', param: 'adapter' },
  ],
  [
    'required: too weak a default of the operator is raised to the default strength',
    {
      ...open,
      required: [{ id: 'b', minScale: null, by }],
      defaultAdapter: { id: 'b', scale: 0.1 },
    },
    {},
    { b: 0.5 },
  ],
  ['required: strength 0', withRequired, query('a:0'), { error: 'adapter_required' }],
  [
    'required: too weak',
    withRequired,
    { lora: [{ id: 'a', scale: 0.79 }] },
    { error: 'adapter_required', param: 'lora' },
  ],
  [
    'required: another adapter',
    withRequired,
    { model: 'b' },
    { error: 'adapter_required', param: 'model' },
  ],
  [
    'required: another adapter in the query',
    withRequired,
    query('b'),
    { error: 'adapter_required' },
  ],
  [
    'required but missing: never without it',
    { ...open, required: [{ id: 'gone', minScale: null, by }] },
    {},
    { error: 'server_error' },
  ],
  [
    'required twice over: silence gets both',
    { ...open, required: [...withRequired.required, { id: 'b', minScale: 2, by: 'key' }] },
    {},
    { a: 1, b: 2 },
  ],
  [
    'required twice over: one of them is not enough',
    { ...open, required: [...withRequired.required, { id: 'b', minScale: 2, by: 'key' }] },
    query('a'),
    { error: 'adapter_required' },
  ],
  [
    'default but missing: never without it',
    { ...open, defaultAdapter: { id: 'gone', scale: 1 } },
    {},
    { error: 'server_error' },
  ],
]

describe('choosing adapters', () => {
  for (const [name, policy, given, expected] of table) {
    it(name, () => {
      const fields: AdapterFields = { query: [], model: 'tiny', ...given }
      if (!('error' in expected)) {
        assert.deepEqual(outcomeOf(fields, policy), expected)
        return
      }
      const { error: code, param } = expected as { error: ErrorCode; param?: string }
      assert.throws(
        () => outcomeOf(fields, policy),
        (error) => {
          assert.ok(error instanceof ServerError)
          assert.equal(error.code, code, error.message)
          if (param) assert.equal(error.param, param, error.message)
          return true
        },
      )
    })
  }

  it('leaves a strength that nobody names to the engine', () => {
    const required = { id: 'b', minScale: null, by } as const
    const policy = { ...open, required: [required] }
    assert.deepEqual(chooseAdapters({ query: ['a,b:2'], model: 'tiny' }, policy), {
      adapters: [
        { id: 'a', scale: null },
        { id: 'b', scale: 2 },
      ],
      required: [{ ...required, namedIn: 'adapter' }],
    })
    assert.deepEqual(chooseAdapters({ query: [], model: 'tiny' }, policy), {
      adapters: [{ id: 'b', scale: null }],
      required: [{ ...required, namedIn: null }],
    })
  })

  it('keeps the order in which the first place names them', () => {
    const { adapters } = chooseAdapters({ query: ['c,a'], model: 'tiny' }, open)
    assert.deepEqual(
      adapters.map(({ id }) => id),
      ['c', 'a'],
    )
  })

  it('an agreeing second place never weakens the required adapter', () => {
    const fields = { query: ['a:0.8'], model: 'tiny', adapter: { id: 'a', scale: 0.8 } }
    assert.deepEqual(chooseAdapters(fields, withRequired).adapters, [{ id: 'a', scale: 0.8 }])
  })

  it('mentions each name once worth looking for, and no wrong ones', () => {
    const names = mentionedNames(
      { query: ['a:0.5,../x'], model: 'tiny:m', adapter: [{ name: 'n' }, 'o:1', 5], lora: null },
      'tiny',
    )
    assert.deepEqual(names, ['a', 'n', 'o', 'm'])
  })
})
