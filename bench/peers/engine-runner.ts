// The one place where the benchmark touches the engine's inside: how a graph is made, loaded and
// run, and how adapters get into memory. What changes there is followed here.

import { createAdapterStore } from '../../server/adapters/store.ts'
import { openCheckpoint } from '../../server/checkpoint/checkpoint.ts'
import { parseModelConfig } from '../../server/checkpoint/checkpoint-config.ts'
import { flags } from '../../server/config.ts'
import type { ScaledRankOne } from '../../server/contracts/adapter.ts'
import type {
  GraphTarget,
  Kernels,
  LinearModule,
  ProbePlace,
  WeightFormat,
} from '../../server/contracts/checkpoint.ts'
import type { KvCacheDtype } from '../../server/contracts/engine.ts'
import { convertCheckpoint } from '../../server/conversion/convert.ts'
import { resolveKernels, targetOf, weightsOf } from '../../server/engine/weights.ts'
import { createRunner } from '../../server/model/runner.ts'
import { cpuDevice } from '../../server/runtime/device.ts'
import { ownKernels } from '../../server/runtime/own-kernels.ts'
import { adapterName } from '../models/random-adapters.ts'
import { configJson } from '../models/random-checkpoint.ts'
import type { Shape } from '../models/shapes.ts'

const maxRankPerRow = 16
/** New tokens of a row in one run, at most: a longer prompt takes several, as in the server. */
const maxChunk = 512

export interface GraphSpec {
  readonly checkpointDir: string
  readonly cacheDir: string
  readonly format: WeightFormat
  readonly sites: readonly LinearModule[]
  /** Where a direction is compared with the hidden state; left out: nowhere. */
  readonly probe?: ProbePlace | null
  /** Of a graph of its own for verdicts; left out: there is none. */
  readonly verdictSites?: readonly LinearModule[]
  /** Positions per cache row. */
  readonly capacity: number
  /** Whose operator multiplies; as the server chooses where left out. */
  readonly kernels?: Kernels
  readonly kvCacheDtype?: KvCacheDtype
}

function targetOfSpec({ format, kernels, kvCacheDtype = 'auto' }: GraphSpec): GraphTarget {
  const chosen = kernels ?? resolveKernels('auto', cpuDevice, ownKernels() !== null)
  return targetOf(weightsOf(format), cpuDevice, chosen, kvCacheDtype)
}

/** Path of the graph file, built when the cache does not hold it. */
export async function ensureGraph(
  spec: GraphSpec,
  onProgress?: (what: string, done: number, total: number) => void,
) {
  const checkpoint = openCheckpoint(spec.checkpointDir)
  const { graphPath: path, verdicts } = await convertCheckpoint({
    dir: spec.checkpointDir,
    checkpoint,
    // As the server does, so that both share one conversion.
    maxContext: checkpoint.config.maxPosition,
    format: spec.format,
    target: targetOfSpec(spec),
    sites: spec.sites,
    probe: spec.probe ?? null,
    verdictSites: spec.verdictSites ?? null,
    cacheDir: spec.cacheDir,
    ...(onProgress && { onProgress }),
  })
  checkpoint.close()
  return { path, verdicts, config: checkpoint.config }
}

export interface EngineSpec extends GraphSpec {
  readonly rows: number
  readonly threads: number
  /** Adapters that are read before anything runs. */
  readonly resident: number
  readonly adapterRoot: string
}

/**
 * A loaded graph with the adapters random-0000 … resident; without server, sampler or scheduler.
 */
export async function openEngineRunner(spec: EngineSpec) {
  const { path, verdicts, config } = await ensureGraph(spec)
  const runner = createRunner({
    graphPath: path,
    verdicts,
    config,
    threads: spec.threads,
    rows: spec.rows,
    shape: { rows: spec.rows, capacity: spec.capacity },
    sites: spec.sites,
    maxChunk,
    target: targetOfSpec(spec),
    probeDirection: spec.probe ? new Float32Array(config.hiddenSize).fill(0.01) : null,
  })
  const store = createAdapterStore({
    root: spec.adapterRoot,
    modelConfig: config,
    sites: new Set([...spec.sites, ...(spec.verdictSites ?? [])]),
    maxBytes: Number.POSITIVE_INFINITY,
    maxRankPerRow,
  })
  const resident: (readonly ScaledRankOne[])[] = []
  for (let index = 0; spec.sites.length > 0 && index < spec.resident; index++) {
    const adapters = [{ id: adapterName(index), scale: null }]
    const held = await store.acquire({ adapters, required: [] })
    resident.push(held.components)
  }
  function componentsOf(adapter: number | null): readonly ScaledRankOne[] {
    return adapter === null ? [] : resident[adapter]!
  }

  return {
    async prefill(row: number, tokens: readonly number[], past: number, adapter: number | null) {
      const components = componentsOf(adapter)
      for (let from = 0; from < tokens.length; from += maxChunk) {
        const chunk = tokens.slice(from, from + maxChunk)
        await runner.prefill({ row, tokens: chunk, past: past + from, components })
      }
    },
    copyRow: (from: number, to: number, length: number) => runner.copyRow(from, to, 0, length),
    /** One step of all rows; nothing is sampled from what it computes. */
    async decode(rows: ReadonlyArray<{ token: number; past: number; adapter: number | null }>) {
      await runner.decode(
        rows.map(({ token, past, adapter }) => ({
          token,
          past,
          components: componentsOf(adapter),
        })),
      )
    },
    /** A verdict step of all rows, with a resident adapter as the guard's; null: of all logits. */
    async verdict(
      rows: ReadonlyArray<{ token: number; past: number }>,
      guard: number,
      wanted: readonly [number, number] | null,
    ) {
      await runner.verdict(rows, componentsOf(guard), wanted)
    },
    release: () => runner.release(),
  }
}

/** Reads and checks adapters of a shape, keeping one at a time; no weights are needed for that. */
export function openAdapterStore(shape: Shape, root: string) {
  const modelConfig = parseModelConfig(configJson(shape))
  const sites = new Set(['up_proj'] as const)
  return createAdapterStore({
    root,
    modelConfig,
    sites,
    maxBytes: oneAdapter(shape),
    maxRankPerRow,
  })
}

function oneAdapter({ layers, hidden, intermediate }: Shape) {
  return layers * (hidden + intermediate) * 4
}

/** The server's flags for a format of weights. */
export function weightFlags(format: WeightFormat): readonly string[] {
  const weights = ['--weights', weightsOf(format)]
  if (format.kind !== 'quantized') return weights
  const flag = flags.some(({ name }) => name === 'weight-block')
  if (!flag && format.block !== 128) throw new Error('this server knows blocks of 128 only')
  return [...weights, ...(flag ? ['--weight-block', `${format.block}`] : [])]
}
