// Which weight format a checkpoint is served in.

import type { WeightFormat } from '../contracts/checkpoint.ts'
import type { ModelInfo, Weights } from '../contracts/engine.ts'
import { ServerError } from '../errors.ts'

/** Below this many parameters float32 costs little and is exact. */
const exactBelow = 200e6
/** Blocks of 128 decode about a third faster than blocks of 32. */
const block = 128

export function resolveWeights(asked: Weights, numParameters: number): ModelInfo['weights'] {
  if (asked !== 'auto') return asked
  return numParameters < exactBelow ? 'fp32' : 'int4'
}

export function formatOf(weights: ModelInfo['weights']): WeightFormat {
  switch (weights) {
    case 'fp32':
      return { kind: 'fp32' }
    case 'int8':
      return { kind: 'quantized', bits: 8, block }
    case 'int4':
      return { kind: 'quantized', bits: 4, block }
    case 'fp16':
      throw new ServerError(
        'invalid_config',
        '--weights fp16 needs a GPU; on the CPU use fp32, int8 or int4.',
      )
  }
}
