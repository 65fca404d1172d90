// Opens an engine that computes nothing itself: prompts, adapters, texts and verdicts are ours, tokens come
// from upstreams (upstream/). The same object as `openEngine` gives.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { openAdapters } from '../adapter-changes/open-adapters.ts'
import { readSurveyed } from '../adapters/folder-survey.ts'
import type { AdapterStore } from '../adapters/store.ts'
import { type Description, openDescription } from '../checkpoint/description.ts'
import type { AppliedAdapter } from '../contracts/adapter.ts'
import { linearModules } from '../contracts/checkpoint.ts'
import {
  type EngineOptions,
  type ModelInfo,
  type UpstreamOptions,
  upstreamCapabilities,
} from '../contracts/engine.ts'
import { isGgufPath } from '../contracts/model-path.ts'
import { readBase } from '../conversion/base.ts'
import { ServerError } from '../errors.ts'
import { chooseGuard } from '../guards/guard-choice.ts'
import { createTokenTexts, type TokenTexts } from '../tokenizer/token-texts.ts'
import { recordedBase } from '../upstream/fingerprint.ts'
import { openPool } from '../upstream/open-pool.ts'
import { createUpstreamLoop, openGrammar, refuseUnsupported } from '../upstream/upstream-loop.ts'
import { createVerdicts, setOfGuard, uncertified } from '../upstream/verdicts.ts'
import { tokenizerParseMs } from './allowances.ts'
import { createIntake } from './intake.ts'
import type { EngineEvents, OpenEngine } from './open.ts'
import { createStatsThrottle } from './stats-throttle.ts'
import { createTextThreads } from './text-threads.ts'
import { checkVocabulary, endTokensOf } from './token-ids.ts'

/** Adapters are only read and written here: so much of them is kept at hand. */
const usualAdapterBytes = 512 * 2 ** 20
/** Strengths are told apart to this: each is a folder, and a name, of its own. */
const strengthsPerOne = 100

/** Rejects with ServerError where it cannot serve; waits for an upstream as long as it takes. */
export async function openUpstreamEngine(
  options: EngineOptions,
  upstream: UpstreamOptions,
  events: EngineEvents,
): Promise<OpenEngine> {
  const startedMs = performance.now()
  const { heart, onNotice } = events

  // 1. Checkpoint and tokenizer.
  heart.enter('opening the checkpoint', tokenizerParseMs(options.model))
  const description = openDescription(options.model)
  const { config, generation } = description
  const texts = createTextThreads({ dir: options.model, onNotice, now: () => performance.now() })
  const { table, ...template } = await texts.opened()
  const tokenizer = createTokenTexts(table)
  checkVocabulary(tokenizer, config.vocabSize, onNotice)
  const eosTokenIds = endTokensOf(generation, tokenizer, config.vocabSize, onNotice)
  const fingerprint = upstream.fingerprint ?? fingerprintPath(options)
  const baseDigest = await baseDigestOf(description, options, events, fingerprint)

  // 2. Guard and adapters.
  heart.enter('reading the adapters')
  const found = await openGuard(options, events, description, baseDigest, tokenizer)
  const guard = found && uncertified(found.guard)
  heart.enter('opening the adapters')
  const { store, changes, reader } = await openAdapters({
    options: { ...options, acceptsOtherBases: options.acceptsOtherBases || baseDigest === null },
    events,
    modelConfig: config,
    sites: linearModules,
    maxBytes: options.adapterMemoryBytes ?? usualAdapterBytes,
    merged: [],
    baseDigest: baseDigest ?? '',
    guard: found && { about: found.about, fingerprint: found.fingerprint },
    onChange: () => reportStats(),
  })

  // 3. Upstreams.
  heart.enter('waiting for an upstream')
  const turn = { client: '', request: '' }
  const { pool, ...opened } = await openPool({
    ...upstream,
    config,
    maxAdapterRank: options.maxAdapterRank,
    async encode(text) {
      const prompt = { kind: 'text', text, addSpecialTokens: false } as const
      const work = { kind: 'encode', prompt, maxContext: config.maxPosition } as const
      return Array.from((await texts.run(work, turn)).tokens)
    },
    fingerprint,
    baseDigest,
    guard: guard && setOfGuard(guard),
    onNotice,
    onServing: (serves) => events.onOutage(serves ? null : noUpstream(upstream).toBody()),
    onProgress: heart.progress,
  })
  const maxContext = Math.min(
    options.maxContext ?? config.maxPosition,
    config.maxPosition,
    opened.maxContext,
  )

  // 4. Requests.
  const sendStats = createStatsThrottle(events.onStats, () => performance.now())
  function reportStats(): void {
    sendStats({
      ...loop.stats(),
      kvUsage: opened.kvUsage(),
      residentAdapters: store.residentIds().length,
      residentAdapterBytes: store.usedBytes,
      pinnedAdapters: store.numPinned(),
    })
  }
  const loop = createUpstreamLoop({
    pool,
    verdicts: guard && createVerdicts(pool, guard),
    eosTokenIds,
    maxStreams: options.maxBatch,
    silenceMs: upstream.silenceMs,
    publish(batch) {
      events.publish(batch)
      reportStats()
    },
    now: () => performance.now(),
  })
  const intake = createIntake({
    tokenizer,
    texts,
    store: asArranged(store),
    loop,
    guard,
    refuse: refuseUnsupported,
    grammars: {
      open: (constraint, { turn, field, mayThink }, signal) =>
        openGrammar(
          { field, mayThink },
          {
            constrains: opened.constrains,
            look: () =>
              texts.run({ kind: 'constraint', constraint, field: field ?? null }, turn, signal),
          },
        ),
    },
    maxContext,
    vocabSize: config.vocabSize,
    eosTokenIds,
    publish: events.publish,
    onSubmitted: reportStats,
  })

  heart.enter('serving')
  return {
    ...intake,
    model: describeModel(options, description, {
      maxContext,
      guard: guard?.info ?? null,
      startedMs,
      constrains: opened.constrains(),
      toolFormat: template.toolFormat,
      tokenizer: { namedTokens: tokenizer.namedTokens, chatTemplate: template.chatTemplate },
    }),
    listAdapters: (query) => store.list(query),
    prepareMerge: refuseMerge,
    async changeAdapter(change) {
      const [before] = await store.list({ ids: [change.id], isBrief: true })
      const changed = await changes.apply(change)
      const former = before?.digest ?? null
      if (former !== null && former !== changed.adapter?.digest) pool.retire(former)
      return changed
    },
    close() {
      opened.close()
      void reader.close()
      void texts.close()
    },
  }
}

/** Known by its weights, or by what a fingerprint was recorded beside; null: adapters of any base come. */
async function baseDigestOf(
  { weights: checkpoint }: Description,
  { model: dir, cacheDir }: EngineOptions,
  { heart, onNotice, onProgress: tell }: EngineEvents,
  fingerprint: string,
): Promise<string | null> {
  if (checkpoint === null) {
    const recorded = recordedBase(fingerprint)
    if (recorded === null) {
      onNotice(
        '--model has no weights, and no recorded fingerprint names their digest: adapters of any ' +
          'base are taken.',
      )
    }
    return recorded
  }
  checkpoint.close()
  const phase = 'reading the checkpoint'
  const onProgress = (done: number, total: number) => {
    heart.enter(phase, 0)
    tell(phase, done, total)
  }
  return (await readBase({ dir, checkpoint, cacheDir, onProgress })).digest
}

/** One for each checkpoint, by what describes it. */
function fingerprintPath({ model, cacheDir }: EngineOptions): string {
  const names = isGgufPath(model) ? [] : ['config.json', 'tokenizer.json']
  const hash = createHash('sha256').update(names.length === 0 ? model : '')
  for (const name of names) hash.update(readFileSync(join(model, name)))
  return join(cacheDir, 'upstream-fingerprints', `${hash.digest('hex').slice(0, 24)}.json`)
}

async function openGuard(
  options: EngineOptions,
  { heart, onNotice }: EngineEvents,
  { config }: Description,
  baseDigest: string | null,
  tokenizer: TokenTexts,
) {
  const told = { onProgress: heart.progress, onNotice }
  const folders = await readSurveyed(options, told)
  const found = await chooseGuard({
    options: { ...options, guardExact: false, merged: [] },
    folders,
    model: config,
    tokenizer,
    baseDigest: async () => baseDigest ?? '',
    ...told,
  })
  if (found !== null) {
    onNotice(
      'The guard runs on an upstream: each verdict costs a prefill, and no measure of the guard ' +
        'covers how it reads there (certified: false). --guard with an address is the measured way.',
    )
  }
  return found
}

/**
 * As the upstream is asked for them. Strengths are rounded up, so that none falls below a minimum; what is
 * applied is what is told.
 */
function asArranged(store: AdapterStore): Pick<AdapterStore, 'acquire'> {
  const round = (scale: number) => Math.ceil(scale * strengthsPerOne - 1e-9) / strengthsPerOne
  function arrange(applied: AppliedAdapter): AppliedAdapter {
    return { ...applied, scale: round(applied.scale), attested: 'arranged' }
  }
  return {
    async acquire(selection, signal) {
      const held = await store.acquire(selection, signal)
      return {
        ...held,
        applied: held.applied.map(arrange),
        components: held.components.map((one) => ({ ...one, scale: round(one.scale) })),
        each: held.each.map((one) => ({ ...one, applied: arrange(one.applied) })),
      }
    },
  }
}

function noUpstream({ urls, healthMs }: UpstreamOptions): ServerError {
  return new ServerError(
    'upstream_unavailable',
    `No upstream takes requests now, of ${urls.length}: each is asked again every ${healthMs / 1000} s ` +
      '(--upstream), and the log says why.',
  )
}

/** Its weights are another server's. */
function refuseMerge(): never {
  throw new ServerError(
    'unsupported_endpoint',
    'Adapters cannot be merged into the weights of an upstream (--engine vllm).',
  )
}

interface Opened extends Pick<ModelInfo, 'maxContext' | 'guard' | 'toolFormat' | 'tokenizer'> {
  readonly startedMs: number
  readonly constrains: boolean
}

function describeModel(
  options: EngineOptions,
  { config, generation, numParameters, created }: Description,
  { startedMs, constrains, ...opened }: Opened,
): ModelInfo {
  return {
    id: options.servedModelName,
    architecture: config.architecture,
    vocabSize: config.vocabSize,
    modelContext: config.maxPosition,
    numParameters,
    weights: 'upstream',
    device: 'upstream',
    kernels: null,
    kvCacheDtype: 'upstream',
    maxBatch: options.maxBatch,
    adapterModules: linearModules,
    kvCapacityTokens: 0,
    defaults: generation.sampling,
    ...opened,
    merged: [],
    capabilities: { ...upstreamCapabilities, ...(!constrains && { constrained: null }) },
    startup: {
      scanSeconds: 0,
      convertSeconds: 0,
      loadSeconds: Math.round(performance.now() - startedMs) / 1000,
      firstTokenSeconds: 0,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
    },
    created,
    bytes: { weights: 0, workspace: 0, adapters: 0, adapterRows: 0, kv: 0 },
  }
}
