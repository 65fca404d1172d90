// A GGUF file, or all parts of a split one: metadata, and tensors that are read one at a time by
// position, as float32 or as they are stored. Knows nothing of models. Synchronous, as safetensors.

import { ServerError } from '../errors.ts'
import type { GgufType } from './block-formats.ts'

/** Whole numbers beyond 2^53 are bigint. */
export type GgufValue = number | bigint | string | boolean | readonly GgufValue[]

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

/** Throws invalid_checkpoint or unsupported_checkpoint. */
export function openGguf(path: string): GgufFile {
  throw new ServerError('unsupported_checkpoint', `${path}: GGUF is not read yet.`)
}
