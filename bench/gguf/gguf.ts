// Writes GGUF version 3: key–value pairs, tensor infos, then the tensors' bytes, each aligned.

import { closeSync, openSync, writeSync } from 'node:fs'

export type GgufValue =
  | { readonly type: 'uint32' | 'float32'; readonly value: number }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'int32s'; readonly value: readonly number[] }

type GgufTensorType = 'F32' | 'Q4_0' | 'Q8_0'

export interface GgufTensor {
  readonly name: string
  readonly type: GgufTensorType
  /** Innermost dimension first, as ggml counts: a weight [outer, inner] is [inner, outer] here. */
  readonly dims: readonly number[]
  readonly bytes: number
  /** Called once, when its turn comes; pieces follow each other. */
  readonly pieces: () => Iterable<Uint8Array>
}

const valueCodes = { uint32: 4, int32: 5, float32: 6, string: 8, array: 9 } as const
const tensorCodes: Readonly<Record<GgufTensorType, number>> = { F32: 0, Q4_0: 2, Q8_0: 8 }
const alignment = 32

/** Everything before the tensors' bytes, padded to the alignment. */
function ggufHeader(
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly Omit<GgufTensor, 'pieces'>[],
): Buffer {
  const pairs = Object.entries(metadata)
  const parts: Buffer[] = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(pairs.length)]
  for (const [key, value] of pairs) parts.push(text(key), encodeValue(value))
  let offset = 0
  for (const { name, type, dims, bytes } of tensors) {
    parts.push(text(name), u32(dims.length), ...dims.map(u64), u32(tensorCodes[type]), u64(offset))
    offset += aligned(bytes)
  }
  const header = Buffer.concat(parts)
  return Buffer.concat([header, Buffer.alloc(aligned(header.length) - header.length)])
}

export function writeGguf(
  path: string,
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
): void {
  const file = openSync(path, 'w')
  try {
    writeSync(file, ggufHeader(metadata, tensors))
    for (const { name, bytes, pieces } of tensors) {
      let written = 0
      for (const piece of pieces()) written += writeSync(file, piece)
      if (written !== bytes)
        throw new Error(`${name} has ${written} bytes, its header says ${bytes}`)
      writeSync(file, Buffer.alloc(aligned(bytes) - bytes))
    }
  } finally {
    closeSync(file)
  }
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment
}

function encodeValue(entry: GgufValue): Buffer {
  switch (entry.type) {
    case 'uint32':
      return Buffer.concat([u32(valueCodes.uint32), u32(entry.value)])
    case 'float32':
      return Buffer.concat([u32(valueCodes.float32), f32(entry.value)])
    case 'string':
      return Buffer.concat([u32(valueCodes.string), text(entry.value)])
    case 'strings':
      return Buffer.concat([
        arrayHead(valueCodes.string, entry.value.length),
        ...entry.value.map(text),
      ])
    case 'int32s': {
      const values = Buffer.from(new Int32Array(entry.value).buffer)
      return Buffer.concat([arrayHead(valueCodes.int32, entry.value.length), values])
    }
  }
}

function arrayHead(code: number, length: number): Buffer {
  return Buffer.concat([u32(valueCodes.array), u32(code), u64(length)])
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeFloatLE(value)
  return bytes
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([u64(bytes.length), bytes])
}
