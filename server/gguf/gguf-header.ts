// The header of a GGUF file, read strictly: counts, lengths, shapes and offsets are checked against
// the file before they are used, so that no tensor read later can reach outside of it.

import { quoteName } from '../contracts/printable.ts'
import { findBlockFormat, type GgufType, typeOfId } from './block-formats.ts'
import { type GgufMetadata, type GgufValue, readMetadata } from './gguf-metadata.ts'
import type { Fail, HeaderCursor } from './header-cursor.ts'

const versions = [2, 3]
const defaultAlignment = 32
const mostDims = 4
const mostNameBytes = 64
const mostTensors = 1 << 16
/** Length of an empty name, count of dimensions, one of them, type and offset. */
const leastTensorBytes = 8 + 4 + 8 + 4 + 8

export interface TensorPlace {
  readonly type: GgufType
  readonly shape: readonly number[]
  /** Of the first byte, in the file. */
  readonly begin: number
  /** Null where the type is unknown. */
  readonly bytes: number | null
}

export interface GgufHeader {
  readonly metadata: ReadonlyMap<string, GgufValue>
  readonly tensors: ReadonlyMap<string, TensorPlace>
}

/** What is thrown for a file that is broken, and for one that is whole but not read here. */
export interface Refusals {
  readonly broken: Fail
  readonly unsupported: Fail
}

/** An info as it stands: its offset counts from the data's start, which is not known yet. */
interface TensorInfo extends Omit<TensorPlace, 'begin'> {
  readonly offset: bigint
}

export function readHeader(
  cursor: HeaderCursor,
  fileSize: number,
  { broken, unsupported }: Refusals,
): GgufHeader {
  readVersion(cursor, broken, unsupported)
  const numTensors = cursor.uint64()
  const numPairs = cursor.uint64()
  const metadata = readMetadata(cursor, numPairs, broken)
  const alignment = readAlignment(metadata, broken)
  const infos = readTensorInfos(cursor, numTensors, broken)
  const dataStart = Math.ceil(cursor.position / alignment) * alignment
  const tensors = placeTensors(infos, { dataStart, alignment, fileSize }, broken)
  return { metadata: metadata.values, tensors }
}

function readVersion(cursor: HeaderCursor, broken: Fail, unsupported: Fail): void {
  if (cursor.left < 24) broken(`the file has ${cursor.left} bytes, fewer than GGUF's first 24`)
  if (cursor.uint32() !== 0x46554747) broken('it does not begin with "GGUF"')
  const version = cursor.uint32()
  if (versions.includes(version)) return
  // A big-endian file of version 1 to 65,535 has its low half empty.
  if (version !== 0 && (version & 0xffff) === 0) {
    unsupported('it is a big-endian GGUF file; a little-endian one is needed')
  }
  unsupported(`it is GGUF version ${version}; ${versions.join(' and ')} are read`)
}

function readAlignment({ values, scalarTypes }: GgufMetadata, fail: Fail): number {
  const value = values.get('general.alignment')
  if (value === undefined) return defaultAlignment
  if (typeof value !== 'number' || scalarTypes.get('general.alignment') !== 'uint32') {
    return fail('general.alignment is not a uint32')
  }
  if (value === 0 || (value & (value - 1)) !== 0) {
    fail(`general.alignment is ${value}; it must be a power of two`)
  }
  return value
}

function readTensorInfos(
  cursor: HeaderCursor,
  count: bigint,
  fail: Fail,
): ReadonlyMap<string, TensorInfo> {
  if (count > BigInt(Math.floor(cursor.left / leastTensorBytes))) {
    fail(`the header counts ${count} tensors, more than the file can hold`)
  }
  if (count > BigInt(mostTensors)) {
    fail(`the header counts ${count} tensors; at most ${mostTensors} are accepted`)
  }
  const infos = new Map<string, TensorInfo>()
  for (let i = 0; i < Number(count); i++) {
    const name = cursor.text(`the name of tensor ${i}`, mostNameBytes)
    if (infos.has(name)) fail(`the header has the tensor ${quoteName(name)} twice`)
    infos.set(name, readTensorInfo(cursor, failFor(name, fail)))
  }
  return infos
}

function readTensorInfo(cursor: HeaderCursor, fail: Fail): TensorInfo {
  const numDims = cursor.uint32()
  if (numDims < 1 || numDims > mostDims) {
    fail(`it has ${numDims} dimensions; 1 to ${mostDims} are accepted`)
  }
  // GGUF's first dimension is the one whose values lie side by side.
  const shape: number[] = []
  for (let i = 0; i < numDims; i++) {
    const size = cursor.uint64()
    if (size === 0n) fail('a dimension is 0')
    if (size > BigInt(Number.MAX_SAFE_INTEGER)) fail('its number of elements overflows')
    shape.unshift(Number(size))
  }
  const type = typeOfId(cursor.uint32())
  const offset = cursor.uint64()
  return { type, shape, offset, bytes: storedBytes(type, shape, fail) }
}

function storedBytes(type: GgufType, shape: readonly number[], fail: Fail): number | null {
  let count = 1
  for (const size of shape) {
    count *= size
    if (!Number.isSafeInteger(count)) fail('its number of elements overflows')
  }
  const format = findBlockFormat(type)
  if (format === undefined) return null
  const rowLength = shape.at(-1)!
  if (rowLength % format.values !== 0) {
    fail(`its rows have ${rowLength} values; ${type} needs a multiple of ${format.values}`)
  }
  const bytes = (count / format.values) * format.bytes
  if (!Number.isSafeInteger(bytes)) fail('its size in bytes overflows')
  return bytes
}

interface DataPart {
  readonly dataStart: number
  readonly alignment: number
  readonly fileSize: number
}

/** Tensors lie in the file, aligned, and do not overlap. Padding and bytes after the last are fine. */
function placeTensors(
  infos: ReadonlyMap<string, TensorInfo>,
  { dataStart, alignment, fileSize }: DataPart,
  fail: Fail,
): ReadonlyMap<string, TensorPlace> {
  const places = new Map<string, TensorPlace>()
  for (const [name, { type, shape, offset, bytes }] of infos) {
    const broken = failFor(name, fail)
    if (offset % BigInt(alignment) !== 0n) {
      broken(`its offset ${offset} is not a multiple of the alignment ${alignment}`)
    }
    const needed = bytes ?? 1
    if (offset + BigInt(dataStart + needed) > BigInt(fileSize)) {
      broken(
        `it has ${bytes ?? 'some'} bytes from ${BigInt(dataStart) + offset} on, and ends outside ` +
          `the file, which has ${fileSize}; download it again`,
      )
    }
    places.set(name, { type, shape, begin: dataStart + Number(offset), bytes })
  }
  const ordered = [...places].sort(([, x], [, y]) => x.begin - y.begin)
  let end = dataStart
  for (const [name, { begin, bytes }] of ordered) {
    if (begin < end) failFor(name, fail)('it overlaps the tensor before it')
    end = begin + (bytes ?? 1)
  }
  return places
}

function failFor(name: string, fail: Fail): Fail {
  return (message) => fail(`tensor ${quoteName(name)}: ${message}`)
}
