// Opens the upstreams: each is checked before it serves, at the start and whenever it comes again. The start
// waits until one serves; the others join when they can.

import { setTimeout as sleep } from 'node:timers/promises'
import type { ModelConfig } from '../contracts/checkpoint.ts'
import type { UpstreamOptions } from '../contracts/engine.ts'
import { ServerError } from '../errors.ts'
import type { AdapterSet } from './adapter-content.ts'
import { createAdapterFolders, openAdaptersDir } from './adapter-folders.ts'
import { UpstreamFailure } from './failure.ts'
import { checkCanary, checkRecorded, type Fingerprint, fixedTexts } from './fingerprint.ts'
import { type Health, watchHealth } from './health.ts'
import { createPool, type Pool } from './pool.ts'
import { createRegistry, type HeldModel } from './registry.ts'
import {
  blankSet,
  checkHead,
  checkRuntimeLoading,
  checkTokenizer,
  confusesBase,
  constrainsAnswers,
  readFingerprint,
  readLogprobs,
  readMetrics,
  readModel,
  tellsCachedTokens,
  type UpstreamModel,
} from './start-checks.ts'
import { createTransport } from './transport.ts'
import { createUpstream, type Upstream } from './upstream.ts'

export interface PoolOptions
  extends Pick<
    UpstreamOptions,
    'urls' | 'adaptersDir' | 'slots' | 'key' | 'healthMs' | 'healthTimeoutMs'
  > {
  readonly config: ModelConfig
  readonly maxAdapterRank: number
  /** Tokens of a text alone. */
  readonly encode: (text: string) => Promise<readonly number[]>
  /** File of the recorded fingerprint. */
  readonly fingerprint: string
  /** Digest of the weights; null: they are not here. */
  readonly baseDigest: string | null
  /** What judges keeps its place in every upstream; null: nobody judges there. */
  readonly guard: AdapterSet | null
  readonly onNotice: (message: string) => void
  /** Whether one takes requests, whenever that changes. At the end of the start one does. */
  readonly onServing: (serves: boolean) => void
  /** While the start waits. */
  readonly onProgress: () => void
}

export interface OpenPool {
  readonly pool: Pool
  /** Of the upstreams that served at the start, the least. */
  readonly maxContext: number
  /** 0–1, of the fullest. */
  kvUsage(): number
  /** Every one that was reached keeps answers to a constraint. */
  constrains(): boolean
  close(): void
}

interface Member {
  readonly upstream: Upstream
  /** All checks, from the first to the last. Rejects with ServerError or UpstreamFailure. */
  check(): Promise<UpstreamModel>
  ask(signal: AbortSignal): Promise<unknown>
  /** 0–1 */
  kvUsage(): number
  constrains(): boolean
}

const callMs = 60_000
/** All checks of one, whose first calls may be slow. */
const checkMs = 300_000
const progressMs = 1000
/** Tokens that are read beside an adapter: what is wrong there shows in few. */
const besideLength = 32
/** Where an upstream does not say. */
const usualSlots = 8
/** Tries between two notices of the start. */
const quietTries = 30

export async function openPool(options: PoolOptions): Promise<OpenPool> {
  const { healthMs: intervalMs } = options
  await openAdaptersDir(options.adaptersDir)
  let serves = true
  let hasBegun = false
  function tellServing(): void {
    const isNow = members.some(({ upstream }) => upstream.isOpen)
    if (!hasBegun || isNow === serves) return
    serves = isNow
    options.onServing(serves)
  }
  const members = options.urls.map((url) => createMember(url, options, tellServing))
  const maxContext = await startMembers(members, options)
  hasBegun = true
  tellServing()
  const watches = members.map((member) => watch(member))

  function watch(member: Member): Health {
    const { upstream } = member
    return watchHealth({
      ask: member.ask,
      async check() {
        const model = await member.check()
        if (model.maxContext < maxContext) {
          throw new ServerError('invalid_config', 'its --max-model-len is less than the others’')
        }
      },
      onDown: upstream.fall,
      onUp: upstream.rise,
      onNotice: noticesOf(upstream.url, options),
      isUp: upstream.isOpen,
      intervalMs,
      timeoutMs: options.healthTimeoutMs,
    })
  }

  return {
    pool: createPool(members.map(({ upstream }) => upstream)),
    maxContext,
    kvUsage: () => Math.max(...members.map((member) => member.kvUsage())),
    constrains: () => members.every((member) => member.constrains()),
    close() {
      for (const health of watches) health.stop()
      for (const { upstream } of members) upstream.transport.close()
    },
  }
}

/** Until one serves. What is reached and wrong ends the start. */
async function startMembers(members: readonly Member[], options: PoolOptions): Promise<number> {
  const { onNotice, onProgress, healthMs: intervalMs } = options
  for (let tries = 0; ; tries++) {
    const contexts: number[] = []
    for (const { upstream, check } of members) {
      onProgress()
      try {
        contexts.push((await waitingFor(check(), onProgress)).maxContext)
        upstream.rise()
      } catch (error) {
        if (!(error instanceof UpstreamFailure)) throw naming(upstream.url, error)
        if (!mayCome(error)) throw naming(upstream.url, explainStart(error))
        if (tries % quietTries === 0) {
          onNotice(`${upstream.url}: it does not answer yet; it is asked again`)
        }
      }
    }
    if (contexts.length > 0) return Math.min(...contexts)
    onProgress()
    await sleep(intervalMs)
  }
}

/** Calls have time limits of their own: until then, waiting for a slow upstream is no standstill. */
async function waitingFor<T>(answer: Promise<T>, onProgress: () => void): Promise<T> {
  const timer = setInterval(onProgress, progressMs)
  try {
    return await answer
  } catch (error) {
    const isLate = error instanceof DOMException && error.name === 'TimeoutError'
    throw isLate ? new UpstreamFailure('outage', 'too slow', { cause: error }) : error
  } finally {
    clearInterval(timer)
  }
}

/** It may only not be there yet. */
function mayCome({ kind }: UpstreamFailure): boolean {
  return kind === 'outage' || kind === 'failed' || kind === 'busy'
}

/** Which of several is meant. */
function naming(url: string, error: unknown): unknown {
  if (!(error instanceof ServerError)) return error
  return new ServerError(error.code, `${url}: ${error.message}`, { cause: error })
}

function noticesOf(url: string, { onNotice }: Pick<PoolOptions, 'onNotice'>) {
  return (message: string) => onNotice(`${url}: ${message}`)
}

function explainStart(failure: UpstreamFailure): ServerError {
  const isKey = /status 40[13]/.test(failure.message)
  return new ServerError(
    'invalid_config',
    isKey
      ? '--upstream: it refuses the key: give its own with --upstream-key-file.'
      : `--upstream: it does not answer as vLLM does (${failure.message}); is it vLLM?`,
    { cause: failure },
  )
}

function inPlaceOfBase(numSlots: number): string {
  return (
    'it reads rows of the base with an adapter of others beside them, as vLLM does on a processor: an adapter ' +
    `that changes nothing is asked in place of the base, and takes one of its ${numSlots} places`
  )
}

/** 0: it changes nothing. */
function strengthOf({ applied, components }: AdapterSet): number {
  const changes = components.some(({ component }) =>
    component.some(({ b }) => b.some((value) => value !== 0)),
  )
  return changes ? Math.max(...applied.map(({ scale }) => scale)) : 0
}

function createMember(url: string, options: PoolOptions, onChange: () => void): Member {
  const onNotice = noticesOf(url, options)
  const { config, encode, onProgress, baseDigest, guard, maxAdapterRank } = options
  const transport = createTransport({ url, key: options.key })
  let baseName = ''
  let base: Fingerprint | null = null
  let numSlots = options.slots ?? 2
  let pinned: HeldModel | null = null
  let isFirst = true
  let startedAt: string | null = null
  let kvUsage = 0
  let constrains = true
  /** Set where it reads rows of the base wrongly beside others. */
  let stand: AdapterSet | null = null
  const folders = createAdapterFolders(options.adaptersDir)
  const registry = createRegistry({
    transport,
    folders,
    numSlots: () => numSlots,
    inPlaceOfBase: () => stand,
    tryOut,
    timeoutMs: callMs,
    onNotice,
  })
  const upstream = createUpstream({
    url,
    transport,
    registry,
    baseName: () => baseName,
    retryMs: 5000,
    onChange,
  })

  const askHealth = (signal: AbortSignal) =>
    transport.text({ method: 'GET', path: '/health', signal })

  /** The first fixed text with the adapter, beside the base's. */
  async function tryOut(name: string, set: AdapterSet, signal: AbortSignal): Promise<void> {
    const { tokens, logprobs } = base?.texts[0] ?? {
      tokens: await encode(fixedTexts[0]),
      logprobs: [],
    }
    const strength = strengthOf(set)
    checkCanary(logprobs, await readLogprobs(transport, name, tokens, signal), { strength })
  }

  async function readBase(signal: AbortSignal): Promise<Fingerprint> {
    const held = await registry.hold({ applied: [], components: [] }, signal)
    try {
      return await readFingerprint(transport, held.name ?? baseName, encode, signal)
    } finally {
      held.release()
    }
  }

  /** An adapter of the largest rank is loaded, and those that judge have their place. */
  async function checkAdapters(signal: AbortSignal): Promise<void> {
    const blank = await registry.hold(blankSet(config, maxAdapterRank), signal)
    blank.release()
    const { maxLoras } = await readMetrics(transport, signal)
    if (options.slots === null) numSlots = maxLoras ?? usualSlots
    if (maxLoras !== null && numSlots > maxLoras) {
      throw new ServerError(
        'invalid_config',
        `--upstream-slots ${numSlots}: it holds ${maxLoras} at once: start it with a larger --max-loras, ` +
          'or leave the flag out.',
      )
    }
    if (maxLoras === null && options.slots === null && isFirst) {
      onNotice(`it does not say --max-loras: ${usualSlots} are taken for granted`)
    }
    const needed = guard === null ? 1 : 2
    if (numSlots < needed) {
      throw new ServerError(
        'invalid_config',
        `--upstream: it holds ${numSlots} adapter at once, and the guard needs a place beside those ` +
          'of requests: start it with --max-loras 2 or more, or use --guard none.',
      )
    }
    if (guard === null) return
    const held = await registry.hold(guard, signal)
    if (pinned === null) pinned = held
    else held.release()
  }

  return {
    upstream,
    kvUsage: () => kvUsage,
    constrains: () => constrains,
    async ask(signal) {
      await askHealth(signal)
      const metrics = await readMetrics(transport, signal).catch(() => null)
      kvUsage = metrics?.kvUsage ?? 0
      // It may have come back, as another one, between two questions.
      if (metrics !== null && metrics.startedAt !== startedAt && upstream.isOpen) {
        throw new UpstreamFailure('outage', 'it was started anew')
      }
    },
    async check() {
      const signal = AbortSignal.timeout(checkMs)
      registry.forgetAll()
      await askHealth(AbortSignal.any([signal, AbortSignal.timeout(options.healthTimeoutMs)]))
      startedAt = (await readMetrics(transport, signal)).startedAt
      const model = await readModel(transport, signal)
      baseName = model.name
      await checkTokenizer(transport, model, encode, signal)
      await checkRuntimeLoading(transport, signal)
      // Before anything asks for prompt_logprobs.
      const parts = { transport, folders }
      const text = await encode(fixedTexts[0])
      await checkHead(parts, config, model, text, signal)
      onProgress()
      // It tells its slots from the first request on.
      const countSlots = async () =>
        (await readMetrics(transport, signal)).maxLoras ?? options.slots ?? usualSlots
      const beside = text.slice(0, besideLength).toReversed()
      const isWrong = await confusesBase(parts, config, model, countSlots, beside, signal)
      stand = isWrong ? blankSet(config, 1) : null
      if (isWrong && isFirst) onNotice(inPlaceOfBase(await countSlots()))
      onProgress()
      const seen = await readBase(signal)
      const outcome = checkRecorded(options.fingerprint, seen, baseDigest)
      if (outcome === 'recorded') onNotice('the base’s fingerprint was recorded: there was none')
      base = seen
      constrains = await constrainsAnswers(transport, model, seen.texts[0]!.tokens, signal)
      if (!constrains && isFirst) {
        onNotice('it does not know structured_outputs: constrained answers are refused')
      }
      onProgress()
      await checkAdapters(signal)
      onProgress()
      if (isFirst && !(await tellsCachedTokens(transport, model, seen.texts[0]!.tokens, signal))) {
        onNotice('it does not tell cached tokens: start it with --enable-prompt-tokens-details')
      }
      isFirst = false
      return model
    },
  }
}
