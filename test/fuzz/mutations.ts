// Good JSON, taken and spoilt: parts removed, replaced, added, wrapped; then the text itself.

import * as fc from 'fast-check'

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

interface Mutation {
  /** Which of the places, counted through the whole value. */
  readonly place: number
  readonly kind: 'remove' | 'replace' | 'add' | 'wrap' | 'repeat'
  readonly key: string
  readonly value: unknown
}

const oddNumbers = [
  0,
  -1,
  1,
  2,
  0.5,
  5e-324,
  1e308,
  -1e308,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  2 ** 63,
  -(2 ** 63),
  1e21,
  17,
]
const oddTexts = [
  '',
  ' ',
  '\0',
  '__proto__',
  'constructor',
  'toString',
  '\ud800',
  '\udc00x',
  '\ufeff',
  '\u2028',
  'null',
  '../../x',
  'a'.repeat(3000),
  '<think>',
  '</think>',
  '<|im_end|>',
  '😀'.repeat(40),
  '-1',
  '1e400',
  'ﬁ',
]

/** Values that nobody asked for. */
export const oddValue: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(null, true, false, [], {}, [[]], [null], ...oddNumbers, ...oddTexts),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.jsonValue({ maxDepth: 2 }),
  fc.array(fc.integer({ min: -2, max: 2000 }), { maxLength: 8 }),
)

const mutation = (keys: readonly string[], values: fc.Arbitrary<unknown>): fc.Arbitrary<Mutation> =>
  fc.record({
    place: fc.nat(400),
    kind: fc.constantFrom('remove', 'replace', 'replace', 'replace', 'add', 'wrap', 'repeat'),
    key: fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom(...keys) },
      { weight: 1, arbitrary: fc.constantFrom(...oddTexts) },
      { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 12 }) },
    ),
    value: values,
  })

/** Texts near to one of the good values. `keys` are names worth adding. */
export function mutatedJson(
  goods: readonly unknown[],
  keys: readonly string[],
  values: fc.Arbitrary<unknown> = oddValue,
): fc.Arbitrary<string> {
  return fc
    .tuple(
      fc.constantFrom(...goods),
      fc.array(mutation(keys, values), { maxLength: 4 }),
      fc.option(damage, { freq: 8 }),
    )
    .map(([good, mutations, spoil]) => {
      const text = JSON.stringify(mutations.reduce(applyMutation, structuredClone(good) as Json))
      return spoil ? applyDamage(text, spoil) : text
    })
}

function applyMutation(root: Json, { place, kind, key, value }: Mutation): Json {
  const holder: { root: Json } = { root }
  const places = [...placesOf(holder)]
  const [parent, name] = places[place % places.length]!
  const fields = parent as Record<string, Json>
  const old = fields[name]!
  const added = structuredClone(value) as Json
  if (kind === 'remove' && parent !== (holder as unknown)) {
    if (Array.isArray(parent)) parent.splice(Number(name), 1)
    else delete fields[name]
  }
  if (kind === 'replace') define(fields, name, added)
  if (kind === 'wrap') define(fields, name, place % 2 ? [old] : { [key]: old })
  if (kind === 'repeat' && Array.isArray(parent)) {
    for (let i = 0; i <= place % 9; i++) parent.push(structuredClone(old))
  }
  if (kind === 'add') {
    if (Array.isArray(old)) old.push(added)
    else if (typeof old === 'object' && old !== null) define(old, key, added)
  }
  return holder.root
}

/** "__proto__" becomes a field of its own, as JSON.parse has it. */
function define(target: Record<string, Json>, name: string, value: Json): void {
  Object.defineProperty(target, name, {
    value,
    enumerable: true,
    configurable: true,
    writable: true,
  })
}

function* placesOf(parent: object, depth = 0): Generator<[object, string]> {
  for (const [name, value] of Object.entries(parent)) {
    yield [parent, name]
    // A vocabulary has more places than are worth counting.
    const isSmall = typeof value === 'object' && value !== null && Object.keys(value).length < 100
    if (isSmall && depth < 8) yield* placesOf(value, depth + 1)
  }
}

interface Damage {
  readonly at: number
  readonly length: number
  readonly text: string
}

const damage: fc.Arbitrary<Damage> = fc.record({
  at: fc.nat(5000),
  length: fc.nat(6),
  text: fc.oneof(
    fc.constantFrom(
      '',
      '{',
      '}',
      '[',
      ']',
      '"',
      ',',
      ':',
      '\\',
      '\\u',
      '\\ud800',
      '1e999',
      '-0',
      'NaN',
    ),
    fc.constantFrom(
      '/*x*/',
      '\0',
      '\ufeff',
      '['.repeat(100),
      '{"a":'.repeat(100),
      '0123',
      '.',
      '+',
    ),
    fc.string({ unit: 'binary', maxLength: 4 }),
  ),
})

/** Some characters replaced by others. */
export function applyDamage(text: string, { at, length, text: other }: Damage): string {
  const start = at % (text.length + 1)
  return text.slice(0, start) + other + text.slice(start + length)
}
