// Rotary position tables as GroupQueryAttention reads them, computed as transformers does.

import type { ModelConfig } from '../contracts/checkpoint.ts'

/** Inverse frequencies, [headDim / 2], in float32 steps as PyTorch computes them. */
export function inverseFrequencies(config: ModelConfig): Float32Array {
  const half = config.headDim / 2
  const frequencies = new Float32Array(half)
  for (let i = 0; i < half; i++) {
    const exponent = Math.fround((2 * i) / config.headDim)
    frequencies[i] = 1 / Math.fround(config.ropeTheta ** exponent)
  }
  const scaling = config.ropeScaling
  if (scaling === null) return frequencies

  // llama3: long wavelengths are slowed by `factor`, short ones kept, those between interpolated.
  const longest = scaling.originalMaxPosition / scaling.lowFreqFactor
  const shortest = scaling.originalMaxPosition / scaling.highFreqFactor
  return frequencies.map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency
    if (wavelength < shortest) return frequency
    if (wavelength > longest) return frequency / scaling.factor
    const smooth =
      (scaling.originalMaxPosition / wavelength - scaling.lowFreqFactor) /
      (scaling.highFreqFactor - scaling.lowFreqFactor)
    return (1 - smooth) * (frequency / scaling.factor) + smooth * frequency
  })
}

/** cos or sin of position × frequency, [maxPosition, headDim / 2] row-major. */
export function rotaryTable(
  config: ModelConfig,
  maxPosition: number,
  wave: (angle: number) => number,
): Float32Array {
  const frequencies = inverseFrequencies(config)
  const half = frequencies.length
  const rows = new Float32Array(maxPosition * half)
  for (let position = 0; position < maxPosition; position++) {
    for (let i = 0; i < half; i++) {
      rows[position * half + i] = wave(Math.fround(position * (frequencies[i] ?? 0)))
    }
  }
  return rows
}
