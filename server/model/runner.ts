// Runs the decoder graph over the rows of a KV cache. A step reads and appends in place; what a run
// returns is a view that the next run overwrites.

import type { ScaledRankOne } from '../contracts/adapter.ts'
import {
  cpuTarget,
  type GraphTarget,
  type LinearModule,
  type ModelConfig,
} from '../contracts/checkpoint.ts'
import { probeInput } from '../graph/decoder.ts'
import { type Accelerator, type AnyTensor, allocateTensor } from '../runtime/session.ts'
import type { AdapterRows } from './adapter-rows.ts'
import { createDeviceKvCache } from './device-kv-cache.ts'
import { type CacheView, createKvCache, type KvCache, type KvCacheShape } from './kv-cache.ts'
import { createLogitMemory, type LogitTensors } from './logits.ts'
import { openSessions, type VerdictGraph } from './sessions.ts'
import { createStepAdapters } from './step-adapters.ts'
import { type Bound, createStepBindings, type StepBindings } from './step-bindings.ts'
import { createStepInputs, type DecodeRow, type PrefillInput, type StepRow } from './step-inputs.ts'

export interface RunnerOptions {
  readonly graphPath: string
  readonly config: ModelConfig
  readonly threads: number
  /** Most cache rows that are ever in use. */
  readonly rows: number
  /** How the cache begins; reshape changes it. */
  readonly shape: KvCacheShape
  /** The modules that the graph was built to adapt. */
  readonly sites: readonly LinearModule[]
  /** Most new tokens in one prefill. */
  readonly maxChunk: number
  /** What the graph was built for; the CPU unless said. */
  readonly target?: GraphTarget
  /** Where it runs; null or left out: on the CPU, which can run any graph. */
  readonly accelerator?: Accelerator | null
  /** w [hidden], where the graph has a probe; null or left out: it has none. */
  readonly probeDirection?: Float32Array | null
  /**
   * On the CPU of a system that maps files, a graph of its own for verdicts; null or left out: the graph
   * has their sites too.
   */
  readonly verdicts?: VerdictGraph | null
}

export type Runner = ReturnType<typeof createRunner>

/** Loads the graph and allocates the cache. Blocks while it does. */
export function createRunner(options: RunnerOptions) {
  const { config, rows, sites, maxChunk, threads, target = cpuTarget, accelerator = null } = options
  const { graphPath, verdicts = null } = options
  const sessions = openSessions({ graphPath, threads, accelerator, verdicts })
  const device = accelerator && { session: sessions.main, accelerator }
  const cacheOptions = { config, ...options.shape, floats: target.cacheFloats }
  const cache = device
    ? createDeviceKvCache({ ...cacheOptions, ...device })
    : createKvCache(cacheOptions)
  const numVerdictRows = verdictRows(target, rows)
  const adapterRows = createStepAdapters({
    ...{ config, target, device, sites, rows, numVerdictRows },
    verdictSites: verdicts?.sites ?? sites,
  })
  const inputs = createStepInputs(rows, maxChunk)
  const probe = createProbeInput(options.probeDirection ?? null)
  const logits = createLogitMemory({ vocabSize: config.vocabSize, rows, hasProbe: probe !== null })
  /** What the last run wrote, and of how many positions. */
  let last = { memory: logits.last, positions: 0 }

  /** Binds `count` cache rows, each with `tokens` new tokens, of which `positions` give logits. */
  function bindRows(
    kv: CacheView,
    count: number,
    tokens: number,
    adapters: Map<string, AnyTensor>,
    memory: LogitTensors,
    positions: number,
    isVerdict = false,
  ): Bound {
    const isAside = isVerdict && sessions.aside !== null
    const told = isAside ? { ...memory, probe: null } : memory
    const { values, blockMax, probe: product } = logits.view(told, count, positions)
    const bound = new Map([...inputs.view(count, tokens, isVerdict), ...kv.inputs, ...adapters])
    if (probe !== null && !isAside) bound.set(probeInput, probe.view(probe.dims))
    const outputs = new Map<string, AnyTensor>([
      ['logits', values],
      ['block_max', blockMax],
      ...kv.outputs,
    ])
    if (product !== null) outputs.set('probe', product)
    const binding = (isAside ? sessions.aside : sessions.main).bind(bound, outputs)
    return {
      binding,
      release: () => {
        binding.release()
        for (const tensor of new Set([...bound.values(), ...outputs.values()])) tensor.release()
      },
    }
  }

  function createStep(adapters: AdapterRows, isVerdict: boolean) {
    return createStepBindings({
      adapters,
      bind: (count, view) =>
        bindRows(cache.decodeView(count), count, 1, view, logits.last, 1, isVerdict),
    })
  }
  const decodeStep = createStep(adapterRows.decode, false)
  const verdictStep = createStep(adapterRows.verdict, true)

  /** One token for each of rows 0 … n − 1; returns their logits, [n × vocab]. */
  async function runStep(
    step: StepBindings,
    batch: readonly StepRow[],
    components: readonly (readonly ScaledRankOne[])[],
  ): Promise<Float32Array> {
    const count = batch.length
    inputs.writeDecode(batch)
    const binding = step.of(count, components)
    cache.beforeDecode(count)
    await binding.run()
    last = { memory: logits.last, positions: count }
    return logits.last.values.data.subarray(0, count * config.vocabSize)
  }

  return {
    /** Appends one row's tokens; returns the last `numLogits` tokens' logits, [numLogits × vocab]. */
    async prefill(input: PrefillInput): Promise<Float32Array> {
      const { row, tokens, past, components, numLogits = 1 } = input
      inputs.writePrefill(input)
      adapterRows.prefill.write([components])
      const memory = logits.ofPrompt(numLogits)
      const kv = cache.prefillView(row, past, tokens.length)
      const adapters = adapterRows.prefill.view(1)
      const bound = bindRows(kv, 1, tokens.length, adapters, memory, numLogits)
      try {
        await bound.binding.run()
      } finally {
        bound.release()
      }
      last = { memory, positions: numLogits }
      return memory.values.data.subarray(0, numLogits * config.vocabSize)
    },

    /** One token for each of rows 0 … n − 1; returns their logits, [n × vocab]. */
    decode(batch: readonly DecodeRow[]): Promise<Float32Array> {
      const components = batch.map((row) => row.components)
      return runStep(decodeStep, batch, components)
    },

    /**
     * The same with one set of components for all rows, in adapter rows of its own. It overwrites
     * position `past` of each row, and no other. Beside `wanted` tokens, logits may be anything.
     */
    verdict(
      batch: readonly StepRow[],
      components: readonly ScaledRankOne[],
      wanted: readonly [number, number] | null = null,
    ): Promise<Float32Array> {
      inputs.writeWanted(wanted)
      const used = Math.min(batch.length, numVerdictRows)
      return runStep(verdictStep, batch, new Array(used).fill(components))
    },

    /** The largest logit of each block of the vocabulary, for what the last run returned. */
    get blockMax(): Float32Array {
      return last.memory.blockMax.data
    },

    /** w · h of each position that the last run gave logits of; null: there is no probe. */
    get probe(): Float32Array | null {
      return last.memory.probe?.data.subarray(0, last.positions) ?? null
    },

    numBlocks: logits.numBlocks,
    positionBytes: cache.positionBytes,
    copyRow: cache.copyRow,
    savePositions: cache.savePositions,
    restorePositions: cache.restorePositions,

    ...createReshaping(cache, [decodeStep, verdictStep]),

    release(): void {
      for (const step of [decodeStep, verdictStep]) step.release()
      adapterRows.release()
      probe?.release()
      cache.release()
      logits.release()
      inputs.release()
      sessions.release()
    },
  }
}

function createReshaping(cache: KvCache, steps: readonly StepBindings[]) {
  const { reshapePart } = cache

  function unbind(): void {
    for (const step of steps) step.release()
  }

  return {
    /** Changes the cache between two runs; row r keeps its first lengths[r] positions. */
    reshape(shape: KvCacheShape, lengths: readonly number[]): void {
      unbind()
      cache.reshape(shape, lengths)
    },

    /** The same in parts, with runs between them: true when all is done. Only on the CPU. */
    ...(reshapePart && {
      reshapePart(shape: KvCacheShape, lengths: readonly number[], maxBytes: number): boolean {
        unbind()
        return reshapePart(shape, lengths, maxBytes)
      },
    }),
  }
}

/** All rows of a verdict have the same adapters: our own operators read one copy of them. */
export function verdictRows({ kernels }: GraphTarget, rows: number): number {
  return kernels === 'own' ? 1 : rows
}

function createProbeInput(direction: Float32Array | null) {
  if (direction === null) return null
  const tensor = allocateTensor('float32', [direction.length])
  tensor.data.set(direction)
  return tensor
}
