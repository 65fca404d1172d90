// A checkpoint whose matrices were rounded to a type of weights and turned back into float32: what
// the rounding costs then shows by itself, whichever engine has the type.

import { copyFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { openCheckpoint } from '../../server/checkpoint/checkpoint.ts'
import { expectedTensors } from '../../server/checkpoint/checkpoint-tensors.ts'
import { writeSafetensors } from '../../server/checkpoint/safetensors-writer.ts'
import { dequantizeRows, quantizeRows } from '../../server/graph/quantize.ts'
import {
  type BlockType,
  blockBytes,
  blockSize,
  quantizeBlocks,
  toHalf,
} from '../gguf/ggml-blocks.ts'
import { type WeightType, weightTypes } from './weight-types.ts'

/** A matrix, row by row, as its numbers of that type stand for it. */
export function roundValues(values: Float32Array, columns: number, type: WeightType): Float32Array {
  const { format } = weightTypes[type]
  if (format?.kind === 'quantized') {
    const options = { ...format, columns }
    return dequantizeRows(quantizeRows(values, options), options)
  }
  switch (type) {
    case 'Q4_0':
    case 'Q8_0':
      return readBlocks(quantizeBlocks(values, type), type)
    case 'int4-128 f16':
      return roundGroups(values, columns, 4)
    case 'int8-128 f16':
      return roundGroups(values, columns, 8)
    case 'bfloat16':
      return roundToBfloat16(values)
    default:
      return values
  }
}

/** The float32 of a half-precision number's bits. */
export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >>> 10) & 31
  const fraction = (bits & 1023) / 1024
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return exponent === 0 ? sign * fraction * 2 ** -14 : sign * (1 + fraction) * 2 ** (exponent - 15)
}

function readBlocks(bytes: Uint8Array, type: BlockType): Float32Array {
  const size = blockBytes[type]
  const values = new Float32Array((bytes.length / size) * blockSize)
  for (let block = 0; block * size < bytes.length; block++) {
    const at = block * size
    const scale = fromHalf(bytes[at]! | (bytes[at + 1]! << 8))
    for (let i = 0; i < blockSize; i++) {
      const byte = bytes[at + 2 + (type === 'Q4_0' ? i % 16 : i)]!
      const integer = type === 'Q8_0' ? (byte << 24) >> 24 : ((i < 16 ? byte : byte >> 4) & 15) - 8
      values[block * blockSize + i] = integer * scale
    }
  }
  return values
}

/** As peers/openvino_graph.py rounds: groups of 128, of 64 where a row is no multiple of that. */
function roundGroups(values: Float32Array, columns: number, bits: 4 | 8): Float32Array {
  const group = columns % 128 === 0 ? 128 : 64
  const most = 2 ** (bits - 1) - 1
  const rounded = new Float32Array(values.length)
  for (let start = 0; start < values.length; start += group) {
    const own = values.subarray(start, start + group)
    const largest = own.reduce((found, value) => Math.max(found, Math.abs(value)), 0)
    const scale = fromHalf(toHalf(largest / most))
    for (const [i, value] of own.entries()) {
      const integer = Math.round(value / (scale || 1))
      rounded[start + i] = scale * Math.min(most, Math.max(-most - 1, integer))
    }
  }
  return rounded
}

function roundToBfloat16(values: Float32Array): Float32Array {
  const words = new Uint32Array(values.slice().buffer)
  for (const [i, word] of words.entries()) {
    words[i] = (word + 0x7fff + ((word >>> 16) & 1)) & 0xffff0000
  }
  return new Float32Array(words.buffer)
}

/** Writes it into `folder`, which is there and empty. */
export function writeRoundedCheckpoint(dir: string, type: WeightType, folder: string): void {
  const checkpoint = openCheckpoint(dir)
  const { config, tensors } = checkpoint
  const written = [...expectedTensors(config)].map(([name, shape]) => ({
    name,
    shape,
    *pieces() {
      const values = tensors.read(name)
      const rounded = shape.length === 2 ? roundValues(values, shape[1]!, type) : values
      yield new Uint8Array(rounded.buffer, rounded.byteOffset, rounded.byteLength)
    },
  }))
  writeSafetensors(join(folder, 'model.safetensors'), written, { dtype: 'F32', bytes: 4 })
  checkpoint.close()
  for (const name of readdirSync(dir)) {
    if (/\.(json|jinja)$/.test(name) && !name.includes('safetensors')) {
      copyFileSync(join(dir, name), join(folder, name))
    }
  }
}
