// A checkpoint opened as the engine opens it, down to the runner, for tests of numbers.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdapterStore } from '../../server/adapters/store.ts'
import { openCheckpoint } from '../../server/checkpoint/checkpoint.ts'
import type { ScaledRankOne } from '../../server/contracts/adapter.ts'
import type {
  Kernels,
  LinearModule,
  ProbePlace,
  WeightFormat,
} from '../../server/contracts/checkpoint.ts'
import type { KvCacheDtype } from '../../server/contracts/engine.ts'
import type { FloatType } from '../../server/contracts/float-type.ts'
import { convertCheckpoint } from '../../server/conversion/convert.ts'
import { foldsOf } from '../../server/conversion/folded-tensors.ts'
import { targetOf, weightsOf } from '../../server/engine/weights.ts'
import { createRunner } from '../../server/model/runner.ts'
import { cpuDevice, type ModelDevice } from '../../server/runtime/device.ts'
import { ownKernels } from '../../server/runtime/own-kernels.ts'

/** Beyond what the server allows on a row, to test the graph with it. */
const maxRank = 16

export interface ServedModelOptions {
  readonly checkpoint: string
  readonly adapters: string
  readonly rows?: number
  readonly capacity?: number
  readonly format?: WeightFormat
  readonly sites?: readonly LinearModule[]
  readonly threads?: number
  readonly floats?: FloatType
  readonly device?: ModelDevice
  readonly kernels?: Kernels
  /** Where conversions are kept; otherwise they go when the model is closed. */
  readonly cacheDir?: string
  /** What the server chooses unless said. */
  readonly kvCacheDtype?: KvCacheDtype
  /** Adapters that are folded into the weights, and their strengths. */
  readonly merged?: Readonly<Record<string, number>>
  /** Of a graph of its own for verdicts. */
  readonly verdictSites?: readonly LinearModule[]
  readonly probe?: { readonly place: ProbePlace; readonly direction: Float32Array }
}

/** Our own operators compute in float32, on the CPU. */
const canUseOwn = ({ accelerator }: ModelDevice, floats: FloatType): boolean =>
  accelerator === null && floats === 'float32' && ownKernels() !== null

export async function openServedModel({
  checkpoint: dir,
  adapters,
  rows = 8,
  capacity = 256,
  format = { kind: 'fp32' },
  sites = ['up_proj'],
  threads = 1,
  floats = 'float32',
  device = cpuDevice,
  kernels = canUseOwn(device, floats) ? 'own' : 'onnxruntime',
  kvCacheDtype = 'auto',
  cacheDir: givenCache,
  merged = {},
  verdictSites,
  probe,
}: ServedModelOptions) {
  const cacheDir = givenCache ?? mkdtempSync(join(tmpdir(), 'dutyfree-test-'))
  const checkpoint = openCheckpoint(dir)
  const { config } = checkpoint
  const traits = { name: device.name, hasFloat16: floats === 'float16' }
  const target = targetOf(weightsOf(format), traits, kernels, kvCacheDtype)
  const store = createAdapterStore({
    root: adapters,
    modelConfig: config,
    sites: new Set([...sites, ...(verdictSites ?? [])]),
    maxBytes: 2 ** 30,
    maxRankPerRow: maxRank,
  })

  async function components(strengths: Readonly<Record<string, number>>) {
    const adapters = Object.entries(strengths).map(([id, scale]) => ({ id, scale }))
    return (await store.acquire({ adapters, required: [] })).components
  }

  const { graphPath, verdicts } = await convertCheckpoint({
    dir,
    folds: foldsOf(await components(merged)),
    checkpoint,
    maxContext: capacity,
    format,
    target,
    sites,
    probe: probe?.place ?? null,
    verdictSites: verdictSites ?? null,
    cacheDir,
  })
  checkpoint.close()
  const runner = createRunner({
    graphPath,
    verdicts,
    config,
    threads,
    rows,
    shape: { rows, capacity },
    sites,
    maxChunk: 128,
    target,
    accelerator: device.accelerator,
    probeDirection: probe?.direction ?? null,
  })
  return {
    config,
    runner,
    store,
    /** The components of adapters at the given strengths. */
    components,
    /** The token with the largest logit continued `count` times, alone in row 0. */
    async greedy(prompt: readonly number[], components: readonly ScaledRankOne[], count: number) {
      let logits = await runner.prefill({ row: 0, tokens: prompt, past: 0, components })
      const tokens: number[] = []
      const gaps: number[] = []
      for (let step = 0; step < count; step++) {
        const { token, gap } = topTwo(logits)
        tokens.push(token)
        gaps.push(gap)
        logits = await runner.decode([{ token, past: prompt.length + step, components }])
      }
      return { tokens, gaps }
    },
    close(): void {
      runner.release()
      if (givenCache === undefined) rmSync(cacheDir, { recursive: true, force: true })
    },
  }
}

/**
 * Of a model without adapters, in two rows of one batch: logits after a prefill of the first tokens,
 * row by row, then of both rows after each later token.
 */
export async function logitsInTwoRows(
  options: Omit<ServedModelOptions, 'rows'>,
  prompt: readonly number[],
): Promise<number[]> {
  const model = await openServedModel({ ...options, rows: 2 })
  try {
    const split = 4
    const found: number[] = []
    for (const row of [0, 1]) {
      const tokens = prompt.slice(0, split)
      found.push(...(await model.runner.prefill({ row, tokens, past: 0, components: [] })))
    }
    for (const [i, token] of prompt.slice(split).entries()) {
      const row = { token, past: split + i, components: [] }
      found.push(...(await model.runner.decode([row, row])))
    }
    return found
  } finally {
    model.close()
  }
}

export function topTwo(logits: Float32Array): { token: number; gap: number } {
  let token = 0
  for (const [id, logit] of logits.entries()) if (logit > (logits[token] as number)) token = id
  let second = Number.NEGATIVE_INFINITY
  for (const [id, logit] of logits.entries()) if (id !== token && logit > second) second = logit
  return { token, gap: (logits[token] as number) - second }
}
