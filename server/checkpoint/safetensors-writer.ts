// Writes a safetensors file whose tensors come in pieces, so that none is whole in memory.

import { createHash } from 'node:crypto'
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'

export interface TensorToWrite {
  readonly name: string
  readonly shape: readonly number[]
  /** Called once, when its turn comes; pieces follow each other. */
  readonly pieces: () => Iterable<Uint8Array>
}

/** Of each number: its type as safetensors names it, and its size. */
interface FloatFormat {
  readonly dtype: 'F32' | 'F16' | 'BF16'
  readonly bytes: number
}

/** On the disk when it returns; gives the file's SHA-256. */
export function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  encoding: FloatFormat,
): string {
  const hash = createHash('sha256')
  const file = openSync(path, 'wx')

  function write(bytes: Uint8Array): void {
    hash.update(bytes)
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(file, bytes, done, bytes.length - done)
    }
  }

  try {
    write(header(tensors, encoding))
    for (const { name, shape, pieces } of tensors) {
      let written = 0
      for (const piece of pieces()) {
        write(piece)
        written += piece.length
      }
      const expected = sizeOf(shape) * encoding.bytes
      if (written !== expected) throw new Error(`${name}: ${written} bytes instead of ${expected}`)
    }
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
  return hash.digest('hex')
}

function header(tensors: readonly TensorToWrite[], { dtype, bytes }: FloatFormat): Uint8Array {
  const entries: Record<string, unknown> = { __metadata__: { format: 'pt' } }
  let offset = 0
  for (const { name, shape } of tensors) {
    const end = offset + sizeOf(shape) * bytes
    entries[name] = { dtype, shape, data_offsets: [offset, end] }
    offset = end
  }
  const text = JSON.stringify(entries)
  // The data begin at a multiple of 8.
  const json = Buffer.from(text.padEnd(text.length + ((8 - (Buffer.byteLength(text) % 8)) % 8)))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  return Buffer.concat([length, json])
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1)
}
