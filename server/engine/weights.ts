// Flags and device → the weight format of a checkpoint, and the floats and kernels of its graph.

import type { Checkpoint } from '../checkpoint/checkpoint.ts'
import type { BlockSize, GraphTarget, Kernels, WeightFormat } from '../contracts/checkpoint.ts'
import type {
  Device,
  EngineOptions,
  KnownWeights,
  KvCacheDtype,
  ModelInfo,
  Weights,
} from '../contracts/engine.ts'
import { type FloatType, floatNames, floatTypeOf } from '../contracts/float-type.ts'
import { isMostlyStored, requireStored } from '../conversion/stored-weights.ts'
import { ServerError } from '../errors.ts'
import type { ModelDevice } from '../runtime/device.ts'
import { ownKernels } from '../runtime/own-kernels.ts'

/** Below this many parameters float32 costs little and is exact. */
const exactBelow = 200e6
/** Block and zero points when no flag says; docs/LOG.md has the errors and speeds behind the choice. */
const defaults = {
  int8: { block: 128, zeroPoints: false },
  int4: { block: 128, zeroPoints: false },
} as const

/** Its floats take little time and memory. */
export function isSmall({ numParameters }: Pick<Checkpoint, 'numParameters'>): boolean {
  return numParameters < exactBelow
}

export interface WeightOptions {
  /** null: the default of the type. */
  readonly weightBlock: BlockSize | null
  readonly weightZeroPoints: boolean | null
}

/** What the choice depends on. */
export interface CheckpointTraits {
  readonly numParameters: number
  /** Most of its matrices can be served in the numbers of their file. */
  readonly keepsNumbers: boolean
}

export interface DeviceTraits {
  readonly name: Device
  readonly hasFloat16: boolean
}

/** What the model is computed in. */
export interface WeightFormats {
  readonly weights: KnownWeights
  readonly format: WeightFormat
  readonly kernels: ModelInfo['kernels']
  readonly target: GraphTarget
}

export function chooseFormats(
  options: EngineOptions,
  checkpoint: Checkpoint,
  device: ModelDevice,
  onNotice: (message: string) => void,
): WeightFormats {
  const { numParameters } = checkpoint
  const kernels = resolveKernels(options.kernels, device, ownKernels() !== null)
  // Who gives a block or zero points asks for another rounding.
  const isOpen = options.weightBlock === null && options.weightZeroPoints === null
  const keepsNumbers = kernels === 'own' && isOpen && isMostlyStored(checkpoint)
  const weights = resolveWeights(options.weights, { numParameters, keepsNumbers }, device)
  const format = formatOf(weights, options)
  if (weights === 'stored') {
    const notice = requireStored(checkpoint, device, kernels)
    if (notice !== null) onNotice(notice)
  }
  const target = targetOf(weights, device, kernels, options.kvCacheDtype)
  return { weights, format, kernels, target }
}

export function resolveWeights(
  asked: Weights,
  { numParameters, keepsNumbers }: CheckpointTraits,
  { name, hasFloat16 }: DeviceTraits,
): KnownWeights {
  switch (asked) {
    case 'auto':
      if (hasFloat16) return 'fp16'
      if (isSmall({ numParameters })) return 'fp32'
      // Rounding again what was rounded to 4 or 8 bits costs accuracy and wins little.
      return keepsNumbers ? 'stored' : 'int4'
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
    case 'stored':
      return asked
  }
}

/** Whose operators compute on the CPU; null on a GPU. `hasOwn`: our own kernels can run here. */
export function resolveKernels(
  asked: 'auto' | Kernels,
  { name }: Pick<DeviceTraits, 'name'>,
  hasOwn: boolean,
): Kernels | null {
  if (asked === 'own' && name !== 'cpu') {
    throw new ServerError(
      'invalid_config',
      `--kernels own is for --device cpu and this is ${name}; use auto or onnxruntime.`,
    )
  }
  if (asked === 'own' && !hasOwn) {
    throw new ServerError(
      'invalid_config',
      '--kernels own needs the compiled library and a processor with AVX2 and FMA: install a C ' +
        'compiler (cc) and build again (npm start does), or use --kernels auto.',
    )
  }
  if (name !== 'cpu') return null
  return hasOwn && asked !== 'onnxruntime' ? 'own' : 'onnxruntime'
}

export function formatOf(weights: KnownWeights, options: WeightOptions): WeightFormat {
  const { weightBlock, weightZeroPoints } = options
  switch (weights) {
    case 'fp32':
    case 'fp16':
    case 'stored': {
      const given =
        weightBlock !== null ? 'block' : weightZeroPoints !== null ? 'zero-points' : null
      if (given === null) return { kind: weights }
      throw new ServerError(
        'invalid_config',
        `--weight-${given} is for --weights int8 and int4, and these are ${weights}; leave it out or ask for one of those.`,
      )
    }
    case 'int8':
    case 'int4': {
      const bits = weights === 'int8' ? 8 : 4
      const block = weightBlock ?? defaults[weights].block
      const zeroPoints = weightZeroPoints ?? defaults[weights].zeroPoints
      // Measured: searching for scales helps symmetric 4-bit blocks, and nothing else.
      return { kind: 'quantized', bits, block, zeroPoints, searchScales: bits === 4 && !zeroPoints }
    }
  }
}

/** Written some rows at a time. */
export function isInBlocks({ kind }: WeightFormat): boolean {
  return kind === 'quantized' || kind === 'stored'
}

/** What `--weights` calls a format. */
export function weightsOf(format: WeightFormat): KnownWeights {
  return format.kind === 'quantized' ? `int${format.bits}` : format.kind
}

/**
 * Quantised weights meet 16-bit activations where the device has them. Keys and values have the type of
 * the activations. Our own kernels keep them in 16 bits beside quantised weights, whose error is larger.
 */
export function targetOf(
  weights: KnownWeights,
  { name, hasFloat16 }: DeviceTraits,
  kernels: Kernels | null,
  kvCacheDtype: KvCacheDtype,
): GraphTarget {
  const floats = weights !== 'fp32' && hasFloat16 ? 'float16' : 'float32'
  return {
    kernels: kernels ?? 'onnxruntime',
    operators: name === 'cpu' ? 'cpu' : 'accelerator',
    floats,
    cacheFloats:
      kernels === 'own' ? ownCache(weights, kvCacheDtype) : cacheAs(floats, kvCacheDtype),
  }
}

/** Our own attention reads either. */
function ownCache(weights: KnownWeights, asked: KvCacheDtype): FloatType {
  if (asked !== 'auto') return floatTypeOf(asked)
  return weights === 'fp32' ? 'float32' : 'float16'
}

/** ONNX Runtime's attention reads only what it computes in. */
function cacheAs(floats: FloatType, asked: KvCacheDtype): FloatType {
  const only = floatNames[floats]
  if (asked === 'auto' || asked === only) return floats
  throw new ServerError(
    'invalid_config',
    `--kv-cache-dtype ${asked} needs --device cpu and --kernels own; here keys and values are ${only}: ` +
      `use ${only} or auto.`,
  )
}
