// A checkpoint's tensors, each checked as it is read: a single NaN or infinity would turn every
// answer into nonsense.

import type { StoredMatrix, TensorSource } from '../contracts/checkpoint.ts'
import { halfValues } from '../contracts/float16.ts'
import { isStoredType, storedBlocks } from '../contracts/stored-blocks.ts'
import { ServerError } from '../errors.ts'

export function finiteTensors(tensors: TensorSource): TensorSource {
  return {
    has: (name) => tensors.has(name),
    shape: (name) => tensors.shape(name),
    read: (name) => checkFinite(name, tensors.read(name), 0),
    readRows(name, first, count) {
      const values = tensors.readRows(name, first, count)
      return checkFinite(name, values, count === 0 ? 0 : (first * values.length) / count)
    },
    ...(tensors.stored && { stored: (name) => finiteMatrix(name, tensors.stored!(name)) }),
  }
}

function finiteMatrix(name: string, { type, readRows }: StoredMatrix): StoredMatrix {
  return {
    type,
    readRows(first, count) {
      const bytes = readRows(first, count)
      if (isStoredType(type)) {
        const { bytes: size, values, hasMins } = storedBlocks[type]
        const offset = count === 0 ? 0 : ((first * bytes.length) / count / size) * values
        checkHalves(name, bytes, { size, values, halves: hasMins ? 2 : 1, offset })
      }
      return bytes
    },
  }
}

/** A block begins with the halves that its values are multiples of. */
function checkHalves(
  name: string,
  bytes: Uint8Array,
  {
    size,
    values,
    halves,
    offset,
  }: { size: number; values: number; halves: number; offset: number },
): void {
  const exponent = 0x7c
  for (let block = 0; block * size < bytes.length; block++) {
    for (let half = 0; half < halves; half++) {
      const at = block * size + 2 * half
      if ((bytes[at + 1]! & exponent) !== exponent) continue
      const value = halfValues()[bytes[at]! | (bytes[at + 1]! << 8)]!
      throw notFinite(name, `a block with ${value}`, offset + block * values)
    }
  }
}

function notFinite(name: string, what: string, element: number): ServerError {
  return new ServerError(
    'invalid_checkpoint',
    `Weights: ${name} holds ${what} at element ${element}; every weight must be a finite number. ` +
      'The checkpoint is damaged: get it again.',
  )
}

/** `offset` elements of the tensor lie before the first value. */
function checkFinite(name: string, values: Float32Array, offset: number): Float32Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const exponent = 0x7f800000
  for (let i = 0; i < words.length; i++) {
    if ((words[i]! & exponent) !== exponent) continue
    throw notFinite(name, String(values[i]), offset + i)
  }
  return values
}
