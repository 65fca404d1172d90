// The key-value pairs of a GGUF header.

import { quoteName } from '../contracts/printable.ts'
import type { Fail, HeaderCursor } from './header-cursor.ts'

/** Whole numbers beyond 2^53 are bigint. */
export type GgufValue = number | bigint | string | boolean | readonly GgufValue[]

/** A vocabulary of 262,144 tokens has about a million in its lists; all lists count together. */
const mostElements = 1 << 22
const mostPairs = 1 << 16
const mostKeyBytes = 65_535
/** Length of an empty key, its type and one byte. */
const leastPairBytes = 8 + 4 + 1

const arrayType = 9

interface ValueType {
  readonly name: string
  /** The least bytes that a value takes. */
  readonly bytes: number
  read(cursor: HeaderCursor, what: string, fail: Fail): GgufValue
}

// By GGUF's number. Lists (9) are read apart; lists of lists are refused, as llama.cpp does.
const valueTypes: readonly (ValueType | undefined)[] = [
  { name: 'uint8', bytes: 1, read: (cursor) => cursor.uint8() },
  { name: 'int8', bytes: 1, read: (cursor) => cursor.int8() },
  { name: 'uint16', bytes: 2, read: (cursor) => cursor.uint16() },
  { name: 'int16', bytes: 2, read: (cursor) => cursor.int16() },
  { name: 'uint32', bytes: 4, read: (cursor) => cursor.uint32() },
  { name: 'int32', bytes: 4, read: (cursor) => cursor.int32() },
  { name: 'float32', bytes: 4, read: (cursor) => cursor.float32() },
  { name: 'bool', bytes: 1, read: readBool },
  { name: 'string', bytes: 8, read: (cursor, what) => cursor.text(what) },
  undefined,
  { name: 'uint64', bytes: 8, read: (cursor) => narrow(cursor.uint64()) },
  { name: 'int64', bytes: 8, read: (cursor) => narrow(cursor.int64()) },
  { name: 'float64', bytes: 8, read: (cursor) => cursor.float64() },
]

export interface GgufMetadata {
  readonly values: ReadonlyMap<string, GgufValue>
  /** GGUF's name of a scalar's type; none for a list. */
  readonly scalarTypes: ReadonlyMap<string, string>
}

export function readMetadata(cursor: HeaderCursor, count: bigint, fail: Fail): GgufMetadata {
  if (count > BigInt(Math.floor(cursor.left / leastPairBytes))) {
    fail(`the header counts ${count} metadata pairs, more than the file can hold`)
  }
  if (count > BigInt(mostPairs)) {
    fail(`the header counts ${count} metadata pairs; at most ${mostPairs} are accepted`)
  }
  const values = new Map<string, GgufValue>()
  const scalarTypes = new Map<string, string>()
  let elementsLeft = mostElements

  for (let i = 0; i < Number(count); i++) {
    const key = cursor.text(`the key of metadata pair ${i}`, mostKeyBytes)
    if (values.has(key)) fail(`the header has the key ${quoteName(key)} twice`)
    const what = `the value of ${quoteName(key)}`
    const type = cursor.uint32()
    if (type === arrayType) {
      const list = readList(cursor, what, elementsLeft, fail)
      elementsLeft -= list.length
      values.set(key, list)
      continue
    }
    const scalar = valueTypes[type] ?? fail(`${what} has the unknown type ${type}`)
    values.set(key, scalar.read(cursor, what, fail))
    scalarTypes.set(key, scalar.name)
  }
  return { values, scalarTypes }
}

function readList(cursor: HeaderCursor, what: string, most: number, fail: Fail): GgufValue[] {
  const type = cursor.uint32()
  if (type === arrayType) fail(`${what} is a list of lists, which is not accepted`)
  const element = valueTypes[type] ?? fail(`${what} is a list of the unknown type ${type}`)
  const length = cursor.uint64()
  if (length > BigInt(Math.floor(cursor.left / element.bytes))) {
    fail(`${what} says it has ${length} elements, more than the file can hold`)
  }
  if (length > BigInt(most)) {
    fail(`the lists of the header have more than ${mostElements} elements, the most accepted`)
  }
  const count = Number(length)
  const whatOfAll = `an element of ${what}`
  const list: GgufValue[] = []
  for (let i = 0; i < count; i++) list.push(element.read(cursor, whatOfAll, fail))
  return list
}

function readBool(cursor: HeaderCursor, what: string, fail: Fail): boolean {
  const byte = cursor.uint8()
  if (byte > 1) fail(`${what} is a bool of ${byte}; it must be 0 or 1`)
  return byte === 1
}

function narrow(value: bigint): number | bigint {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}
