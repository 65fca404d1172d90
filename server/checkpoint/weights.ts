// A checkpoint's weights, whatever files they lie in.

import type { TensorSource } from '../contracts/checkpoint.ts'

interface StoredTensor {
  /** F32, F16, … as the file names it; one that can be read as float32, or not. */
  readonly dtype: string
  readonly shape: readonly number[]
}

export interface Weights {
  /** The files that hold them, an index included. */
  readonly paths: readonly string[]
  /** By Hugging Face's names. */
  readonly stored: ReadonlyMap<string, StoredTensor>
  readonly tensors: TensorSource
  close(): void
}
