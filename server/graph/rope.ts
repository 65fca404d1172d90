// Rotary position tables as GroupQueryAttention reads them, computed as transformers does.

import type { Llama3RopeScaling, ModelConfig, YarnRopeScaling } from '../contracts/checkpoint.ts'

/** Inverse frequencies, [headDim / 2], in float32 steps as PyTorch computes them. */
function inverseFrequencies(config: ModelConfig): Float32Array {
  const half = config.headDim / 2
  const periods = Float32Array.from({ length: half }, (_, i) => {
    return config.ropeTheta ** Math.fround((2 * i) / config.headDim)
  })
  const plain = periods.map((period) => 1 / period)
  const scaling = config.ropeScaling
  switch (scaling?.kind) {
    case undefined:
      return plain
    case 'linear':
      return plain.map((frequency) => frequency / scaling.factor)
    case 'llama3':
      return plain.map((frequency) => llama3Frequency(frequency, scaling))
    case 'yarn':
      return yarnFrequencies(periods, config, scaling)
  }
}

/** Long wavelengths are slowed by `factor`, short ones kept, those between interpolated. */
function llama3Frequency(frequency: number, scaling: Llama3RopeScaling): number {
  const longest = scaling.originalMaxPosition / scaling.lowFreqFactor
  const shortest = scaling.originalMaxPosition / scaling.highFreqFactor
  const wavelength = (2 * Math.PI) / frequency
  if (wavelength < shortest) return frequency
  if (wavelength > longest) return frequency / scaling.factor
  const smooth =
    (scaling.originalMaxPosition / wavelength - scaling.lowFreqFactor) /
    (scaling.highFreqFactor - scaling.lowFreqFactor)
  return (1 - smooth) * (frequency / scaling.factor) + smooth * frequency
}

/** A ramp over the dimensions, from those kept to those slowed by `factor`. */
function yarnFrequencies(
  periods: Float32Array,
  { headDim, ropeTheta }: ModelConfig,
  scaling: YarnRopeScaling,
): Float32Array {
  /** The dimension that turns so often within the original context. */
  function dimensionOf(turns: number) {
    return (
      (headDim * Math.log(scaling.originalMaxPosition / (turns * 2 * Math.PI))) /
      (2 * Math.log(ropeTheta))
    )
  }

  const first = dimensionOf(scaling.betaFast)
  const last = dimensionOf(scaling.betaSlow)
  const low = Math.max(scaling.truncate ? Math.floor(first) : first, 0)
  const high = Math.min(scaling.truncate ? Math.ceil(last) : last, headDim - 1)
  const width = low === high ? 0.001 : high - low
  return periods.map((period, i) => {
    const slowed = Math.fround(Math.min(Math.max(Math.fround((i - low) / width), 0), 1))
    const kept = Math.fround(1 - slowed)
    const slow = Math.fround(1 / Math.fround(scaling.factor * period))
    const fast = Math.fround(1 / period)
    return Math.fround(slow * Math.fround(1 - kept)) + Math.fround(fast * kept)
  })
}

/** cos or sin of position × frequency, [maxPosition, headDim / 2] row-major. */
export function rotaryTable(
  config: ModelConfig,
  maxPosition: number,
  wave: (angle: number) => number,
): Float32Array {
  const frequencies = inverseFrequencies(config)
  const magnitude = config.ropeScaling?.kind === 'yarn' ? config.ropeScaling.attentionFactor : 1
  const half = frequencies.length
  const rows = new Float32Array(maxPosition * half)
  for (let position = 0; position < maxPosition; position++) {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(position * (frequencies[i] ?? 0))
      rows[position * half + i] = magnitude * Math.fround(wave(angle))
    }
  }
  return rows
}
