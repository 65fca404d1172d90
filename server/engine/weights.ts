// Which weight format a checkpoint is served in, and what its graph computes in.

import type { FloatType, WeightFormat } from '../contracts/checkpoint.ts'
import type { Device, ModelInfo, Weights } from '../contracts/engine.ts'
import { ServerError } from '../errors.ts'

/** Below this many parameters float32 costs little and is exact. */
const exactBelow = 200e6
/** Blocks of 128 decode about a third faster than blocks of 32. */
const block = 128

/** What the choice depends on of a device. */
export interface DeviceTraits {
  readonly name: Device
  readonly hasFloat16: boolean
}

export function resolveWeights(
  asked: Weights,
  numParameters: number,
  { name, hasFloat16 }: DeviceTraits,
): ModelInfo['weights'] {
  switch (asked) {
    case 'auto':
      if (hasFloat16) return 'fp16'
      return numParameters < exactBelow ? 'fp32' : 'int4'
    case 'fp16':
      if (hasFloat16) return asked
      throw new ServerError(
        'invalid_config',
        name === 'cpu'
          ? '--weights fp16 needs a GPU; on the CPU use fp32, int8 or int4.'
          : '--weights fp16 needs a GPU that computes in 16-bit floats, and this one does not; ' +
              'use fp32, int8 or int4.',
      )
    case 'fp32':
      // ONNX Runtime's attention on CUDA is for 16-bit floats only.
      if (name !== 'cuda') return asked
      throw new ServerError(
        'invalid_config',
        '--weights fp32 is not available with --device cuda; use fp16, int8 or int4.',
      )
    case 'int8':
    case 'int4':
      return asked
  }
}

export function formatOf(weights: ModelInfo['weights']): WeightFormat {
  switch (weights) {
    case 'fp32':
    case 'fp16':
      return { kind: weights }
    case 'int8':
      return { kind: 'quantized', bits: 8, block }
    case 'int4':
      return { kind: 'quantized', bits: 4, block }
  }
}

/** Integers are multiplied with the shorter floats where the device has them. */
export function floatsOf(weights: ModelInfo['weights'], { hasFloat16 }: DeviceTraits): FloatType {
  return weights !== 'fp32' && hasFloat16 ? 'float16' : 'float32'
}
