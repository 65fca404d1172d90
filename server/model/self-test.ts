// Tests a device before it serves a model: the first layers and the head, with the model's own weights,
// compute the same few steps on the device and on the CPU. Two layers bound the cost: the head of a large
// model takes seconds and some gigabytes, and further layers are more of the same.

import type { RankOne, ScaledRankOne } from '../contracts/adapter.ts'
import {
  type GraphTarget,
  type LinearModule,
  type ModelConfig,
  moduleShape,
  type WeightFormat,
} from '../contracts/checkpoint.ts'
import type { Device } from '../contracts/engine.ts'
import { ServerError } from '../errors.ts'
import { cpuDevice, type ModelDevice } from '../runtime/device.ts'
import { createRunner } from './runner.ts'

export interface SelfTestOptions {
  readonly device: ModelDevice
  /** A graph of the first layers, as many as `config` has. */
  readonly graphPath: string
  readonly config: ModelConfig
  readonly format: WeightFormat
  readonly target: GraphTarget
  readonly sites: readonly LinearModule[]
  readonly threads: number
}

/**
 * Largest difference allowed, relative to the logits' standard deviation. Other orders of summation give
 * 1e-6 in float32 and 1e-2 in float16. Quantised weights also round their activations, which gives 5e-2.
 * A wrong computation differs by about 1.
 */
const limits = { fp32: 1e-3, fp16: 0.05, quantized: 0.2, stored: 0.2 } as const satisfies Record<
  WeightFormat['kind'],
  number
>

/** Returns the difference; throws ServerError when it is too large. */
export async function testDevice(options: SelfTestOptions): Promise<number> {
  const { device, format } = options
  const expected = await runSteps(options, cpuDevice)
  const got = await runSteps(options, device)
  return requireEqual(device.name, format, got, expected)
}

/** The same for logits that were computed already. */
export function requireEqual(
  device: Device,
  { kind }: WeightFormat,
  got: readonly Float32Array[],
  expected: readonly Float32Array[],
): number {
  const difference = Math.max(...got.map((logits, i) => relativeDifference(logits, expected[i]!)))
  const limit = limits[kind]
  if (difference <= limit) return difference
  throw new ServerError(
    'device_unavailable',
    `--device ${device} failed its self-test: its logits differ from the CPU's by ` +
      `${difference.toPrecision(2)} of their spread, and at most ${limit} is right. Update the GPU's ` +
      'driver, try other --weights, or use --device cpu.',
  )
}

/** Two rows of different lengths, one with an adapter: prefill, prefill on a past, decode. */
async function runSteps(
  { graphPath, config, target, sites, threads }: SelfTestOptions,
  { accelerator }: ModelDevice,
): Promise<Float32Array[]> {
  const rows = 2
  const capacity = 16
  const runnerOptions = { graphPath, config, target, sites, threads, accelerator }
  const runner = createRunner({ ...runnerOptions, rows, shape: { rows, capacity }, maxChunk: 4 })
  const base: ScaledRankOne[] = []
  const adapted = [{ component: wavyComponent(config, sites), scale: 1 }]
  const results: Float32Array[] = []
  function token(i: number): number {
    return (i * 7919 + 13) % config.vocabSize
  }
  /** The next run overwrites what a run returns. */
  function keep(logits: Float32Array): void {
    results.push(logits.slice())
  }
  try {
    const first = [token(0), token(1), token(2)]
    keep(await runner.prefill({ row: 0, tokens: first, past: 0, components: base }))
    const second = [token(3), token(4)]
    keep(await runner.prefill({ row: 0, tokens: second, past: 3, components: base }))
    keep(await runner.prefill({ row: 1, tokens: first, past: 0, components: adapted }))
    for (let step = 0; step < 2; step++) {
      const batch = [
        { token: token(5 + step), past: 5 + step, components: base },
        { token: token(8 + step), past: 3 + step, components: adapted },
      ]
      keep(await runner.decode(batch))
    }
  } finally {
    runner.release()
  }
  return results
}

/** An adapter strong enough to be seen. */
function wavyComponent(config: ModelConfig, sites: readonly LinearModule[]): RankOne {
  return Array.from({ length: config.numLayers }, (_, layer) =>
    sites.map((module) => {
      const { inner, outer } = moduleShape(config, module)
      const a = Float32Array.from({ length: inner }, (_, i) => Math.sin(i + 1) / Math.sqrt(inner))
      const b = Float32Array.from({ length: outer }, (_, i) => Math.cos(i + layer) / 4)
      return { layer, module, a, b }
    }),
  ).flat()
}

/** Root mean square of the difference over the standard deviation of what was expected. */
export function relativeDifference(got: Float32Array, expected: Float32Array): number {
  const mean = expected.reduce((sum, value) => sum + value, 0) / expected.length
  let spread = 0
  let difference = 0
  for (const [i, value] of expected.entries()) {
    spread += (value - mean) ** 2
    difference += (got[i]! - value) ** 2
  }
  return Math.sqrt(difference / spread)
}
