// Opens an engine: from a checkpoint folder to an object that takes requests. The process entry serves
// it over IPC.

import { surveyAdapters, surveyBases } from '../adapters/folder-survey.ts'
import type { ReadAdapter } from '../adapters/peft.ts'
import { createAdapterReader } from '../adapters/reader.ts'
import { joinSites, sitesOfFolder } from '../adapters/sites.ts'
import { type AdapterStore, createAdapterStore } from '../adapters/store.ts'
import { type Checkpoint, openCheckpoint } from '../checkpoint/checkpoint.ts'
import type { GraphTarget, LinearModule, WeightFormat } from '../contracts/checkpoint.ts'
import type { EngineOptions, EngineStats, ModelInfo } from '../contracts/engine.ts'
import { floatNames } from '../contracts/float-type.ts'
import type { GenerationEvent } from '../contracts/generation.ts'
import {
  type ConvertedCheckpoint,
  convertCheckpoint,
  convertedBytes,
  probeOf,
} from '../conversion/convert.ts'
import { isMostlyStored, requireStored } from '../conversion/stored-weights.ts'
import type { CallHandlers } from '../engine-client/protocol.ts'
import { ServerError } from '../errors.ts'
import { createIdleTimer } from '../loop/idle-timer.ts'
import { firstShape } from '../loop/kv-shape.ts'
import { createLoop, type Loop } from '../loop/loop.ts'
import { createRunner, type Runner } from '../model/runner.ts'
import { testDevice } from '../model/self-test.ts'
import { type ModelDevice, openDevice } from '../runtime/device.ts'
import { ownKernels } from '../runtime/own-kernels.ts'
import { createTokenTexts } from '../tokenizer/token-texts.ts'
import { acceleratorMs, diskMs, tokenizerParseMs } from './allowances.ts'
import { droppedTensors } from './dropped-tensors.ts'
import { readFreeMemory } from './free-memory.ts'
import { guardRunner } from './guarded-runner.ts'
import type { Heart } from './heart.ts'
import { createIntake, type Intake } from './intake.ts'
import { type MemoryPlan, planMemory } from './memory.ts'
import { createStartup, firstTokens, type Startup } from './startup.ts'
import { createStatsThrottle } from './stats-throttle.ts'
import { createTextThreads } from './text-threads.ts'
import { checkVocabulary, endTokensOf } from './token-ids.ts'
import { createStepBounds, watchRunner } from './watched-runner.ts'
import { formatOf, isInBlocks, resolveKernels, resolveWeights, targetOf } from './weights.ts'

const maxChunk = 512
/** Longest pause of a running stream while a prompt comes in. */
const targetGapMs = 250
/** Idle time until the KV cache gives memory back: longer than people think between two turns. */
const idleMs = 120_000

export interface EngineEvents {
  /** Told of each phase, and later of each step. */
  readonly heart: Heart
  readonly publish: (events: ReadonlyArray<readonly [string, GenerationEvent]>) => void
  readonly onStats: (stats: EngineStats) => void
  readonly onProgress: (what: string, done: number, total: number) => void
  /** A warning for the operator: the start goes on. */
  readonly onNotice: (message: string) => void
  /** A GPU failed after the start; nothing can be computed any more. */
  readonly onDeviceFailure: (error: unknown) => void
}

export interface OpenEngine extends Pick<Intake, 'submit' | 'cancel'>, CallHandlers {
  readonly model: ModelInfo
  close(): void
}

/** What an engine is opened from. */
interface Opening {
  readonly options: EngineOptions
  readonly events: EngineEvents
  readonly checkpoint: Checkpoint
}

/** What the model is computed in, and where adapters may change it. */
interface Formats {
  readonly weights: ModelInfo['weights']
  readonly format: WeightFormat
  readonly kernels: ModelInfo['kernels']
  readonly target: GraphTarget
  readonly sites: readonly LinearModule[]
}

/** Loads everything; blocks for most of it. Rejects with ServerError on a checkpoint that cannot be served. */
export async function openEngine(
  options: EngineOptions,
  events: EngineEvents,
): Promise<OpenEngine> {
  const startup = createStartup({
    now: () => performance.now(),
    peakRssBytes: () => process.resourceUsage().maxRSS * 1024,
  })

  const { heart } = events

  // 1. Checkpoint and tokenizer.
  const tokenizerMs = tokenizerParseMs(options.model)
  heart.enter('opening the checkpoint', tokenizerMs)
  const checkpoint = openCheckpoint(options.model)
  const texts = createTextThreads({
    dir: options.model,
    onNotice: events.onNotice,
    now: () => performance.now(),
  })
  const tokenizer = createTokenTexts(await texts.opened())
  const opening: Opening = { options, events, checkpoint }
  const { vocabSize } = checkpoint.config
  heart.enter('looking for dropped tensors')
  for (const notice of droppedTensors(checkpoint, heart.progress)) events.onNotice(notice)
  checkVocabulary(tokenizer, vocabSize, events.onNotice)
  const { generation } = checkpoint
  const eosTokenIds = endTokensOf(generation, tokenizer, vocabSize, events.onNotice)

  // 2. Device and formats.
  heart.enter('opening the device', options.device === 'cpu' ? 0 : acceleratorMs)
  const device = openDevice(options.device, options.onnxruntime)
  heart.enter('reading the adapters')
  const sites = await startup.scan(() => chooseSites(opening))
  const formats = chooseFormats(opening, device, sites)

  // 3. Memory plan, before anything large is allocated.
  const memory = chooseMemory(opening, formats)

  // 4. Conversion; found in the cache when it was done before.
  heart.enter('preparing the conversion', diskMs(memory.bytes.weights))
  const converted = await convert(opening, formats)
  checkpoint.close()
  startup.markConverted()

  // 5. Device test. A device failure up to and including phase 6 is an ordinary start-up error.
  heart.enter('testing the device', acceleratorMs + diskMs(memory.bytes.weights))
  await testAccelerator(opening, device, formats, converted)

  // 6. Runner and first token.
  const deviceMs = device.accelerator === null ? 0 : acceleratorMs
  heart.enter('loading the weights', deviceMs + diskMs(memory.bytes.weights))
  const plainRunner = loadRunner(opening, device, formats, memory, converted)
  heart.enter('computing the first token', deviceMs + diskMs(memory.bytes.weights))
  const started = await startup.warmUp(plainRunner)
  const guarded =
    device.accelerator === null ? plainRunner : guardRunner(plainRunner, events.onDeviceFailure)
  const bounds = createStepBounds({
    tokens: firstTokens.length,
    ms: started.firstTokenSeconds * 1000,
  })
  const runner = watchRunner(guarded, { heart, bounds, now: () => performance.now() })

  // 7. Adapters and loop.
  heart.enter('opening the adapters', tokenizerMs)
  const reader = createAdapterReader()
  const store = openStore(opening, formats, memory, converted, reader.read)
  await tellOtherBases(store, events)
  for (const { id } of options.operatorsAdapters) await tryAdapter(store, id)
  const { loop, reportStats } = startLoop(opening, memory, runner, store)
  const intake = createIntake({
    tokenizer,
    texts,
    store,
    loop,
    maxContext: memory.limits.maxCapacity,
    vocabSize,
    eosTokenIds,
    publish: events.publish,
    onSubmitted: reportStats,
  })

  heart.enter('serving')
  return {
    ...intake,
    model: describeModel(opening, device, formats, memory, started),
    listAdapters: (query) => store.list(query),
    close() {
      runner.release()
      void reader.close()
      void texts.close()
    },
  }
}

async function chooseSites({ options, events }: Opening): Promise<readonly LinearModule[]> {
  const { adapters, adapterModules, scansAdapters, servedModelName } = options
  for (const notice of surveyAdapters(adapters, ['none', servedModelName])) events.onNotice(notice)
  events.heart.progress()
  if (!scansAdapters) return adapterModules
  const onProgress = (done: number, total: number) => {
    events.heart.progress()
    events.onProgress('looking at adapters', done, total)
  }
  const found = await sitesOfFolder(adapters, { onProgress, onNotice: events.onNotice })
  return joinSites(adapterModules, found)
}

function chooseFormats(
  { options, events, checkpoint }: Opening,
  device: ModelDevice,
  sites: readonly LinearModule[],
): Formats {
  const { numParameters } = checkpoint
  const kernels = resolveKernels(options.kernels, device, ownKernels() !== null)
  // Who gives a block or zero points asks for another rounding.
  const isOpen = options.weightBlock === null && options.weightZeroPoints === null
  const keepsNumbers = kernels === 'own' && isOpen && isMostlyStored(checkpoint)
  const weights = resolveWeights(options.weights, { numParameters, keepsNumbers }, device)
  const format = formatOf(weights, options)
  if (weights === 'stored') {
    const notice = requireStored(checkpoint, device, kernels)
    if (notice !== null) events.onNotice(notice)
  }
  const target = targetOf(weights, device, kernels, options.kvCacheDtype)
  return { weights, format, kernels, target, sites }
}

function chooseMemory({ options, checkpoint }: Opening, formats: Formats): MemoryPlan {
  const { config } = checkpoint
  const { format, target, sites } = formats
  const layout = { checkpoint, maxContext: config.maxPosition, format, target, sites }
  const weightBytes = convertedBytes(layout)
  const freeBytes = readFreeMemory()
  return planMemory({ config, options, target, sites, weightBytes, freeBytes, maxChunk })
}

function convert(opening: Opening, formats: Formats): Promise<ConvertedCheckpoint> {
  const { options, events, checkpoint } = opening
  const { format, target, sites } = formats
  return convertCheckpoint({
    dir: options.model,
    checkpoint,
    // The whole context, whatever memory allows today, so that the result is found again tomorrow.
    maxContext: checkpoint.config.maxPosition,
    format,
    target,
    sites,
    cacheDir: options.cacheDir,
    onProgress(phase, done, total) {
      // Weights that stay floats are written whole, each a single piece of progress.
      events.heart.enter(phase, isInBlocks(format) ? 0 : diskMs(total))
      events.onProgress(phase, done, total)
    },
    onFlush: (bytes) => events.heart.enter('writing to the disk', diskMs(bytes)),
    onNotice: events.onNotice,
  })
}

async function testAccelerator(
  { options, events, checkpoint }: Opening,
  device: ModelDevice,
  { format, target, sites }: Formats,
  { graphPath }: ConvertedCheckpoint,
): Promise<void> {
  if (device.accelerator === null) return
  events.onProgress('testing the device', 0, 1)
  const probe = probeOf(graphPath, checkpoint.config)
  await testDevice({ device, ...probe, format, target, sites, threads: options.threads ?? 0 })
  events.onProgress('testing the device', 1, 1)
}

function loadRunner(
  { options, checkpoint }: Opening,
  { accelerator }: ModelDevice,
  { target, sites }: Formats,
  { limits }: MemoryPlan,
  { graphPath }: ConvertedCheckpoint,
): Runner {
  return createRunner({
    graphPath,
    config: checkpoint.config,
    threads: options.threads ?? 0,
    rows: options.maxBatch,
    shape: firstShape(limits),
    sites,
    maxChunk,
    target,
    accelerator,
  })
}

function openStore(
  { options, events, checkpoint }: Opening,
  { sites }: Formats,
  memory: MemoryPlan,
  { baseDigest }: ConvertedCheckpoint,
  read: ReadAdapter,
): AdapterStore {
  return createAdapterStore({
    root: options.adapters,
    modelConfig: checkpoint.config,
    sites: new Set(sites),
    baseDigest: options.acceptsOtherBases ? null : baseDigest,
    operators: options.operatorsAdapters,
    onNotice: events.onNotice,
    maxBytes: memory.bytes.adapters,
    maxRankPerRow: options.maxAdapterRank,
    reserved: [options.servedModelName],
    read,
  })
}

async function tellOtherBases(store: AdapterStore, { heart, onNotice }: EngineEvents) {
  const notice = await surveyBases(store.list, {
    now: () => performance.now(),
    onPage: heart.progress,
  })
  if (notice !== null) onNotice(notice)
}

/** Reads an adapter before the first request; what is wrong with it is in the list then. */
async function tryAdapter(store: AdapterStore, id: string): Promise<void> {
  try {
    const held = await store.acquire({ adapters: [{ id, scale: null }], required: null })
    held.release()
  } catch (error) {
    if (!(error instanceof ServerError)) throw error
  }
}

function startLoop(
  { checkpoint, events }: Opening,
  { limits }: MemoryPlan,
  runner: Runner,
  store: AdapterStore,
): { readonly loop: Loop; readonly reportStats: () => void } {
  const sendStats = createStatsThrottle(events.onStats, () => performance.now())
  function reportStats(): void {
    sendStats(loop.stats(store.residentIds().length))
  }
  const loop = createLoop({
    runner,
    limits,
    targetGapMs,
    vocabSize: checkpoint.config.vocabSize,
    maxChunk,
    publish: (batch) => {
      events.publish(batch)
      reportStats()
    },
    now: () => performance.now(),
    idle: createIdleTimer(idleMs),
  })
  return { loop, reportStats }
}

function describeModel(
  { options, checkpoint }: Opening,
  device: ModelDevice,
  { weights, kernels, target, sites }: Formats,
  { limits, bytes }: MemoryPlan,
  startup: Startup,
): ModelInfo {
  const { config, generation, numParameters, created } = checkpoint
  return {
    id: options.servedModelName,
    architecture: config.architecture,
    vocabSize: config.vocabSize,
    maxContext: limits.maxCapacity,
    modelContext: config.maxPosition,
    numParameters,
    weights,
    device: device.name,
    kernels,
    kvCacheDtype: floatNames[target.cacheFloats],
    maxBatch: options.maxBatch,
    adapterModules: sites,
    kvCapacityTokens: limits.maxPositions,
    defaults: generation.sampling,
    startup,
    created,
    bytes,
  }
}
