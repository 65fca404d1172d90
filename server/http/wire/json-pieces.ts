// A value as JSON in pieces, as JSON.stringify would write it. Iterables are lists that are walked while
// they are written; arrays and deeper objects hold none.

import { RawJson } from '../reply/raw-json.ts'

const lazyDepth = 4
const sliceLength = 64

export function* jsonPieces(value: unknown, depth = 0): Generator<string, void, undefined> {
  if (value instanceof RawJson) yield value.text
  else if (Array.isArray(value)) yield* arrayPieces(value)
  else if (typeof value !== 'object' || value === null) yield JSON.stringify(value) ?? 'null'
  else if (Symbol.iterator in value) yield* listPieces(value as Iterable<unknown>, depth)
  else if (depth >= lazyDepth) yield JSON.stringify(value)
  else yield* objectPieces(value, depth)
}

function* arrayPieces(values: readonly unknown[]): Generator<string, void, undefined> {
  if (values.length <= sliceLength) return yield JSON.stringify(values)
  yield '['
  for (let at = 0; at < values.length; at += sliceLength) {
    const slice = JSON.stringify(values.slice(at, at + sliceLength)).slice(1, -1)
    yield at === 0 ? slice : `,${slice}`
  }
  yield ']'
}

function* listPieces(values: Iterable<unknown>, depth: number): Generator<string, void, undefined> {
  let separator = '['
  for (const value of values) {
    yield separator
    yield* jsonPieces(value, depth + 1)
    separator = ','
  }
  yield separator === '[' ? '[]' : ']'
}

function* objectPieces(value: object, depth: number): Generator<string, void, undefined> {
  let separator = '{'
  for (const [key, field] of Object.entries(value)) {
    if (field === undefined) continue
    yield `${separator}${JSON.stringify(key)}:`
    yield* jsonPieces(field, depth + 1)
    separator = ','
  }
  yield separator === '{' ? '{}' : '}'
}
