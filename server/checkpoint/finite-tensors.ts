// A checkpoint's tensors, each checked as it is read: a single NaN or infinity would turn every
// answer into nonsense.

import type { TensorSource } from '../contracts/checkpoint.ts'
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
  }
}

/** `offset` elements of the tensor lie before the first value. */
function checkFinite(name: string, values: Float32Array, offset: number): Float32Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const exponent = 0x7f800000
  for (let i = 0; i < words.length; i++) {
    if ((words[i]! & exponent) !== exponent) continue
    throw new ServerError(
      'invalid_checkpoint',
      `Weights: ${name} holds ${values[i]} at element ${offset + i}; every weight must be a finite number. ` +
        'The checkpoint is damaged: get it again.',
    )
  }
  return values
}
