// Which weight format a checkpoint is served in.

import type { BlockSize, WeightFormat } from '../contracts/checkpoint.ts'
import type { ModelInfo, Weights } from '../contracts/engine.ts'
import { ServerError } from '../errors.ts'

/** Below this many parameters float32 costs little and is exact. */
const exactBelow = 200e6
/** What a flag left open; docs/LOG.md holds the errors and speeds they were chosen by. */
const defaults = {
  int8: { block: 128, zeroPoints: false },
  int4: { block: 128, zeroPoints: false },
} as const

export interface WeightOptions {
  /** null: the default of the type. */
  readonly weightBlock: BlockSize | null
  readonly weightZeroPoints: boolean | null
}

export function resolveWeights(asked: Weights, numParameters: number): ModelInfo['weights'] {
  if (asked !== 'auto') return asked
  return numParameters < exactBelow ? 'fp32' : 'int4'
}

export function formatOf(weights: ModelInfo['weights'], options: WeightOptions): WeightFormat {
  const { weightBlock, weightZeroPoints } = options
  switch (weights) {
    case 'fp32': {
      const given =
        weightBlock !== null ? 'block' : weightZeroPoints !== null ? 'zero-points' : null
      if (given === null) return { kind: 'fp32' }
      throw new ServerError(
        'invalid_config',
        `--weight-${given} needs quantised weights and these are fp32; ask for --weights int8 or int4.`,
      )
    }
    case 'int8':
    case 'int4': {
      const bits = weights === 'int8' ? 8 : 4
      const block = weightBlock ?? defaults[weights].block
      const zeroPoints = weightZeroPoints ?? defaults[weights].zeroPoints
      // Measured: the search gains with 4 bits around the middle, and with nothing else.
      return { kind: 'quantized', bits, block, zeroPoints, searchScales: bits === 4 && !zeroPoints }
    }
    case 'fp16':
      throw new ServerError(
        'invalid_config',
        '--weights fp16 needs a GPU; on the CPU use fp32, int8 or int4.',
      )
  }
}
