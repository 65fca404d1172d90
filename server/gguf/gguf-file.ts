// A GGUF file, or all parts of a split one: metadata, and tensors that are read one at a time by
// position, as float32 or as they are stored. Knows nothing of models. Synchronous, as safetensors.

import { quoteName } from '../contracts/printable.ts'
import { blockFormats, findBlockFormat, type GgufType } from './block-formats.ts'
import { findDequantizer, readableTypes } from './dequantize.ts'
import type { TensorPlace } from './gguf-header.ts'
import type { GgufValue } from './gguf-metadata.ts'
import { failAs, type GgufPart } from './gguf-part.ts'
import { openParts } from './gguf-splits.ts'

export interface GgufTensor {
  readonly type: GgufType
  /** Row-major, as torch has it: [out, in]; GGUF's own dimensions reversed. */
  readonly shape: readonly number[]
}

export interface GgufFile {
  /** Of the first part. */
  readonly metadata: ReadonlyMap<string, GgufValue>
  readonly tensors: ReadonlyMap<string, GgufTensor>
  /** One path, or those of all parts in order. */
  readonly paths: readonly string[]
  readFloat32(name: string): Float32Array
  /** Rows first … first + count − 1, a row being all that shares the first index. */
  readFloat32Rows(name: string, first: number, count: number): Float32Array
  /** The blocks of those rows as they stand in the file. */
  readStoredRows(name: string, first: number, count: number): Uint8Array
  close(): void
}

type Format = NonNullable<ReturnType<typeof findBlockFormat>>

interface FoundTensor {
  readonly part: GgufPart
  readonly place: TensorPlace
  readonly format: Format
}

/** A multiple of the values of every block. */
const chunkValues = 1 << 20

/** Throws invalid_checkpoint or unsupported_checkpoint. */
export function openGguf(path: string): GgufFile {
  const parts = openParts(path)
  const owners = new Map(
    parts.flatMap((part) => [...part.header.tensors.keys()].map((name) => [name, part] as const)),
  )
  const tensors = new Map(
    parts.flatMap(({ header }) =>
      [...header.tensors].map(([name, { type, shape }]) => [name, { type, shape }] as const),
    ),
  )
  let isOpen = true

  function find(name: string): FoundTensor {
    if (!isOpen) throw new Error('GGUF file is closed')
    const part = owners.get(name)
    if (!part) return failAs('invalid_checkpoint', path)(`there is no tensor ${quoteName(name)}`)
    const place = part.header.tensors.get(name)!
    const format = findBlockFormat(place.type) ?? refuse(name, part, place.type)
    return { part, place, format }
  }

  return {
    metadata: parts[0]!.header.metadata,
    tensors,
    paths: parts.map((part) => part.path),
    readFloat32(name) {
      const tensor = find(name)
      const { begin, bytes } = tensor.place
      return readBlocks(name, tensor, begin, bytes!)
    },
    readFloat32Rows(name, first, count) {
      const tensor = find(name)
      const { begin, bytes } = rowsOf(name, tensor, first, count)
      return readBlocks(name, tensor, begin, bytes)
    },
    readStoredRows(name, first, count) {
      const tensor = find(name)
      const { begin, bytes } = rowsOf(name, tensor, first, count)
      const stored = new Uint8Array(bytes)
      tensor.part.readAt(stored, begin)
      return stored
    },
    close() {
      if (isOpen) for (const part of parts) part.close()
      isOpen = false
    },
  }
}

function refuse(name: string, part: GgufPart, type: GgufType): never {
  return failAs(
    'unsupported_checkpoint',
    part.path,
  )(
    `tensor ${quoteName(name)} is of ${type in blockFormats ? type : `the unknown ${type}`}; ` +
      `${readableTypes.join(', ')} are read`,
  )
}

/** Where rows lie. They are whole blocks, but in a quantised list, where each value is a row. */
function rowsOf(
  name: string,
  { part, place, format }: FoundTensor,
  first: number,
  count: number,
): { begin: number; bytes: number } {
  const { shape, begin, type } = place
  if (first < 0 || count < 0 || first + count > shape[0]!) {
    throw new RangeError(`${name}: rows beyond its end`)
  }
  const rowValues = shape.slice(1).reduce((product, size) => product * size, 1)
  const from = (first * rowValues) / format.values
  const blocks = (count * rowValues) / format.values
  if (!Number.isInteger(from) || !Number.isInteger(blocks)) {
    const fail = failAs('unsupported_checkpoint', part.path)
    fail(`tensor ${quoteName(name)} is a list of ${type}; parts of its blocks are not read`)
  }
  return { begin: begin + from * format.bytes, bytes: blocks * format.bytes }
}

function readBlocks(
  name: string,
  { part, place, format }: FoundTensor,
  begin: number,
  bytes: number,
): Float32Array {
  const dequantize = findDequantizer(place.type) ?? refuse(name, part, place.type)
  const values = new Float32Array((bytes / format.bytes) * format.values)
  const chunkBytes = (chunkValues / format.values) * format.bytes
  const memory = new Uint8Array(Math.min(chunkBytes, bytes))
  for (let done = 0; done < bytes; done += chunkBytes) {
    const chunk = memory.subarray(0, Math.min(chunkBytes, bytes - done))
    part.readAt(chunk, begin + done)
    const first = (done / format.bytes) * format.values
    const count = (chunk.length / format.bytes) * format.values
    dequantize(chunk, values.subarray(first, first + count))
  }
  return values
}
