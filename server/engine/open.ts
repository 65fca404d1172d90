// Opens an engine: from a checkpoint folder to an object that takes requests. The process entry serves
// it over IPC.

import { prepareMerge, readMerged, type WeightsAdapter } from '../adapter-changes/merge-copies.ts'
import { openAdapters } from '../adapter-changes/open-adapters.ts'
import type { FolderEntry } from '../adapters/folder-index.ts'
import { readSurveyed } from '../adapters/folder-survey.ts'
import { sitesOfFolders } from '../adapters/sites.ts'
import type { AdapterStore } from '../adapters/store.ts'
import { type Checkpoint, openCheckpoint } from '../checkpoint/checkpoint.ts'
import { inLayerOrder } from '../contracts/checkpoint.ts'
import type { EngineOptions, EngineStats, ModelInfo } from '../contracts/engine.ts'
import type { GenerationEvent } from '../contracts/generation.ts'
import { readBase } from '../conversion/base.ts'
import {
  type ConvertedCheckpoint,
  convertCheckpoint,
  convertedBytes,
  probeOf,
} from '../conversion/convert.ts'
import { type Folds, foldsOf } from '../conversion/folded-tensors.ts'
import type { CallHandlers } from '../engine-client/protocol.ts'
import type { ErrorBody } from '../errors.ts'
import { chooseGuard } from '../guards/guard-choice.ts'
import type { GuardOfFolder } from '../guards/guard-folder.ts'
import type { Heart } from '../heart/heart.ts'
import { firstShape } from '../loop/kv-shape.ts'
import { createLoop, type Loop } from '../loop/loop.ts'
import { droppedTensors } from '../model/dropped-tensors.ts'
import { guardRunner } from '../model/guarded-runner.ts'
import { createRunner, type Runner } from '../model/runner.ts'
import { testDevice } from '../model/self-test.ts'
import { countCores } from '../runtime/core-count.ts'
import { type ModelDevice, openDevice } from '../runtime/device.ts'
import { readFreeMemory } from '../runtime/free-memory.ts'
import type { LoadedGuard } from '../safety/guard.ts'
import { createTokenTexts, type TokenTexts } from '../tokenizer/token-texts.ts'
import { acceleratorMs, diskMs, tokenizerParseMs } from './allowances.ts'
import { foldedGuard, placeVerdicts, scaledOf, type VerdictPlace } from './folded-guard.ts'
import { createGrammars } from './grammars.ts'
import { createIdleTimer } from './idle-timer.ts'
import { createIntake, type Intake } from './intake.ts'
import { type MemoryPlan, planMemory } from './memory.ts'
import { type Described, describeModel } from './model-info.ts'
import { createStartup, firstTokens } from './startup.ts'
import { createStatsThrottle } from './stats-throttle.ts'
import { createTextThreads } from './text-threads.ts'
import { checkVocabulary, endTokensOf, grammarVocabulary } from './token-ids.ts'
import { createStepBounds, watchRunner } from './watched-runner.ts'
import { chooseFormats, isInBlocks, type WeightFormats } from './weights.ts'

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
  /** Nothing can be computed now, and why; null: it can again. */
  readonly onOutage: (error: ErrorBody | null) => void
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

/** What the model is computed in, where adapters may change it, and who judges. */
interface Formats extends WeightFormats, VerdictPlace {
  readonly guard: GuardOfFolder | null
  /** Adapters that become part of the weights. */
  readonly merged: readonly WeightsAdapter[]
  readonly folds: Folds
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
  const { table, ...template } = await texts.opened()
  const tokenizer = createTokenTexts(table)
  const described: Described = {
    toolFormat: template.toolFormat,
    tokenizer: { namedTokens: tokenizer.namedTokens, chatTemplate: template.chatTemplate },
  }
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
  const { scansAdapters, acceptsOtherBases } = options
  const needsBase = scansAdapters || options.merged.length > 0
  const lookedAt = needsBase && !acceptsOtherBases ? await baseDigestOf(opening) : null
  heart.enter('reading the adapters')
  const { folders, sites } = await startup.scan(() => readSites(opening, lookedAt))
  const merged = await readMerged(options.merged, {
    cacheDir: options.cacheDir,
    model: checkpoint.config,
    maxRank: options.maxAdapterRank,
    baseDigest: lookedAt,
  })
  const held = merged.map((one) => one.held)
  const guard = await openGuard(opening, folders, lookedAt, tokenizer)
  const floats = chooseFormats(options, checkpoint, device, events.onNotice)
  const placed = placeVerdicts(sites, guard, merged, floats, checkpoint)
  const folds = foldsOf(held.flatMap(scaledOf))
  const formats = { ...floats, ...placed, guard, merged, folds }

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
  const { store, changes, reader } = await openAdapters({
    options,
    events,
    modelConfig: checkpoint.config,
    sites: formats.sites,
    maxBytes: memory.bytes.adapters,
    baseDigest: converted.baseDigest,
    guard,
    merged: merged.map(({ version }) => version),
    onChange: () => reportStats(),
  })
  const judge = guard && foldedGuard(guard.guard, held)
  const { loop, reportStats } = startLoop(opening, memory, runner, judge, store)
  const grammars = createGrammars({
    vocabulary: () => grammarVocabulary(table, tokenizer, vocabSize, eosTokenIds),
    texts,
  })
  const intake = createIntake({
    ...{ tokenizer, texts, grammars, store, loop, vocabSize, eosTokenIds, guard: judge },
    merged: held,
    maxContext: memory.limits.maxCapacity,
    publish: events.publish,
    onSubmitted: reportStats,
  })

  heart.enter('serving')
  return {
    ...intake,
    model: describeModel({ ...opening, ...described }, device, formats, memory, started),
    listAdapters: (query) => store.list(query),
    prepareMerge: (target) =>
      prepareMerge(target, { root: options.adapters, cacheDir: options.cacheDir, store }),
    changeAdapter: changes.apply,
    close() {
      runner.release()
      void reader.close()
      void texts.close()
      void grammars.close()
    },
  }
}

async function baseDigestOf({ options, events, checkpoint }: Opening): Promise<string> {
  const { model: dir, cacheDir } = options
  const phase = 'reading the checkpoint'
  const onProgress = (done: number, total: number) => {
    events.heart.enter(phase, 0)
    events.onProgress(phase, done, total)
  }
  return (await readBase({ dir, checkpoint, cacheDir, onProgress })).digest
}

/** What is in the adapters folder, and the modules that adapters may change. */
async function readSites({ options, events }: Opening, baseDigest: string | null) {
  const { adapterModules, scansAdapters } = options
  const { heart, onNotice } = events
  const folders = await readSurveyed(options, { onProgress: heart.progress, onNotice })
  if (!scansAdapters) return { folders, sites: adapterModules }
  const onProgress = (done: number, total: number) => {
    events.heart.progress()
    events.onProgress('looking at adapters', done, total)
  }
  const scan = { baseDigest, onProgress, onNotice: events.onNotice }
  return { folders, sites: inLayerOrder(adapterModules, await sitesOfFolders(folders, scan)) }
}

/** Before the graph is built: a guard needs sites, and perhaps a probe. It stays as it was read. */
function openGuard(
  opening: Opening,
  folders: readonly FolderEntry[],
  baseDigest: string | null,
  tokenizer: TokenTexts,
): Promise<GuardOfFolder | null> {
  const { options, events, checkpoint } = opening
  return chooseGuard({
    options,
    folders,
    model: checkpoint.config,
    tokenizer,
    baseDigest: async () => baseDigest ?? baseDigestOf(opening),
    onProgress: events.heart.progress,
    onNotice: events.onNotice,
  })
}

function chooseMemory({ options, checkpoint }: Opening, formats: Formats): MemoryPlan {
  const { config } = checkpoint
  const { format, target, sites, guard, merged, folds } = formats
  const layout = { checkpoint, maxContext: config.maxPosition, format, target, sites, folds }
  const weightBytes = convertedBytes(layout)
  const freeBytes = readFreeMemory()
  return planMemory({
    config,
    options,
    target,
    sites,
    mergedRank: merged.reduce((sum, { version }) => sum + version.about.rank, 0),
    guard: guard && { rank: guard.about.rank, modules: guard.modules },
    weightBytes,
    freeBytes,
    maxChunk,
  })
}

function convert(opening: Opening, formats: Formats): Promise<ConvertedCheckpoint> {
  const { options, events, checkpoint } = opening
  const { format, target, sites, verdictSites, guard, folds } = formats
  return convertCheckpoint({
    dir: options.model,
    checkpoint,
    // The whole context, whatever memory allows today, so that the result is found again tomorrow.
    maxContext: checkpoint.config.maxPosition,
    format,
    target,
    sites,
    probe: guard?.probe?.place ?? null,
    folds,
    verdictSites,
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
  await testDevice({
    device,
    ...probe,
    format,
    target,
    sites,
    threads: options.threads ?? countCores(),
  })
  events.onProgress('testing the device', 1, 1)
}

function loadRunner(
  { options, checkpoint }: Opening,
  { accelerator }: ModelDevice,
  { target, sites, guard }: Formats,
  { limits }: MemoryPlan,
  { graphPath, verdicts }: ConvertedCheckpoint,
): Runner {
  return createRunner({
    graphPath,
    verdicts,
    config: checkpoint.config,
    threads: options.threads ?? countCores(),
    rows: options.maxBatch,
    shape: firstShape(limits),
    sites,
    maxChunk,
    target,
    accelerator,
    probeDirection: guard?.probe?.direction ?? null,
  })
}

function startLoop(
  { checkpoint, events }: Opening,
  { limits }: MemoryPlan,
  runner: Runner,
  guard: LoadedGuard | null,
  store: AdapterStore,
): { readonly loop: Loop; readonly reportStats: () => void } {
  const sendStats = createStatsThrottle(events.onStats, () => performance.now())
  function reportStats(): void {
    sendStats({
      ...loop.stats(),
      residentAdapters: store.residentIds().length,
      residentAdapterBytes: store.usedBytes,
      pinnedAdapters: store.numPinned(),
    })
  }
  const loop = createLoop({
    runner,
    guard,
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
