// What an upstream must be before it serves, asked of itself: each failure says what to change.

import { randomUUID } from 'node:crypto'
import { linearModules, type ModelConfig } from '../contracts/checkpoint.ts'
import { ServerError } from '../errors.ts'
import { type AdapterSet, headPair, loudPair } from './adapter-content.ts'
import type { AdapterFolders } from './adapter-folders.ts'
import { constrainedBody, endlessBody, promptBody, verdictBody } from './completion-request.ts'
import { isOfCall, requireSameModel, UpstreamFailure } from './failure.ts'
import { type Fingerprint, fixedTexts, isSameBase, logprobsOfPlaces } from './fingerprint.ts'
import { readStream } from './stream.ts'
import type { Transport } from './transport.ts'
import { parseChunk, parseModels, parseText, parseTokens, parseVerdict } from './wire.ts'

export interface UpstreamModel {
  /** Its name for the base. */
  readonly name: string
  readonly maxContext: number
}

const path = '/v1/completions'

function refuse(message: string): never {
  throw new ServerError('invalid_config', `--upstream: ${message}`)
}

/** The base that it serves. */
export async function readModel(transport: Transport, signal: AbortSignal): Promise<UpstreamModel> {
  const models = parseModels(await transport.text({ method: 'GET', path: '/v1/models', signal }))
  const base = models.find(({ parent }) => parent == null)
  if (base === undefined) refuse('it lists no base model; is it vLLM?')
  if (base.max_model_len == null) refuse('it does not say max_model_len; is it vLLM?')
  return { name: base.id, maxContext: base.max_model_len }
}

/** The fixed texts have the same tokens on both sides. */
export async function checkTokenizer(
  transport: Transport,
  { name }: UpstreamModel,
  encode: (text: string) => Promise<readonly number[]>,
  signal: AbortSignal,
): Promise<void> {
  for (const prompt of fixedTexts) {
    const body = JSON.stringify({ model: name, prompt, add_special_tokens: false })
    const call = { method: 'POST', path: '/tokenize', body, signal } as const
    const theirs = parseTokens(await transport.text(call))
    if (theirs.join() === (await encode(prompt)).join()) continue
    refuse('its tokenizer gives other tokens than that of --model: serve the same checkpoint.')
  }
}

/** The log-probability of each token after the first. */
export async function readLogprobs(
  transport: Transport,
  model: string,
  tokens: readonly number[],
  signal: AbortSignal,
): Promise<number[]> {
  const body = promptBody(model, tokens, 0)
  const text = await transport.text({ method: 'POST', path, body, signal })
  const chunk = parseChunk(text, null, { prompt: { tokens, numTop: 0 } })
  requireSameModel(chunk.model, model)
  return logprobsOfPlaces(chunk.prompt!)
}

export async function readFingerprint(
  transport: Transport,
  name: string,
  encode: (text: string) => Promise<readonly number[]>,
  signal: AbortSignal,
): Promise<Fingerprint> {
  const texts: { tokens: readonly number[]; logprobs: number[] }[] = []
  for (const text of fixedTexts) {
    const tokens = await encode(text)
    texts.push({ tokens, logprobs: await readLogprobs(transport, name, tokens, signal) })
  }
  if (texts.some(({ logprobs }) => !logprobs.every(Number.isFinite))) {
    refuse('its base gives log-probabilities that are no numbers.')
  }
  return { texts }
}

/** Adapters can come while it runs. */
export async function checkRuntimeLoading(
  transport: Transport,
  signal: AbortSignal,
): Promise<void> {
  const call = { method: 'POST', path: '/v1/load_lora_adapter', body: '{}', signal } as const
  try {
    await transport.text(call)
  } catch (error) {
    // A name and a folder are missing: it says so where it would load one.
    if (error instanceof UpstreamFailure && /status (400|422)/.test(error.message)) return
    if (!(error instanceof UpstreamFailure) || !/status 40[45]/.test(error.message)) throw error
  }
  refuse(
    'it loads no adapters while it runs: start it with --enable-lora and ' +
      'VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.',
  )
}

/** Of taking a check's adapters out again, whatever became of the check. */
const unloadMs = 10_000

export interface CheckParts {
  readonly transport: Transport
  readonly folders: AdapterFolders
}

/**
 * What `ask` gives while folders are registered, each under its name. null: the upstream does not take one of
 * them; a later check tells why.
 */
async function whileLoaded<T>(
  transport: Transport,
  folders: ReadonlyMap<string, string>,
  signal: AbortSignal,
  ask: () => Promise<T>,
): Promise<T | null> {
  const change = (kind: 'load' | 'unload', fields: object, signal: AbortSignal) => {
    const body = JSON.stringify(fields)
    return transport.text({ method: 'POST', path: `/v1/${kind}_lora_adapter`, body, signal })
  }
  try {
    for (const [name, folder] of folders) {
      try {
        await change('load', { lora_name: name, lora_path: folder }, signal)
      } catch (error) {
        const judged = await transport.judge(error, signal)
        if (isOfCall(judged)) return null
        throw judged
      }
    }
    return await ask()
  } finally {
    // Also after a check that was given up: its registrations would stay.
    for (const name of folders.keys()) {
      const signal = AbortSignal.timeout(unloadMs)
      await change('unload', { lora_name: name }, signal).catch(() => {})
    }
  }
}

/** Logits further apart than rounding and batches explain. */
const leastChange = 1

/**
 * Without a list of modules vLLM prepares lm_head for adapters, too. On a processor prompt_logprobs beside
 * another request then end its engine, and this front asks for them. One token tells: an adapter of lm_head
 * acts there, or is taken and ignored, or refused.
 */
export async function checkHead(
  { transport, folders }: CheckParts,
  { hiddenSize, vocabSize }: ModelConfig,
  { name: base }: UpstreamModel,
  tokens: readonly number[],
  signal: AbortSignal,
): Promise<void> {
  const name = `head-${randomUUID()}`
  const read = async (model: string) => {
    const body = verdictBody(model, tokens, [0, 1])
    const verdict = parseVerdict(await transport.text({ method: 'POST', path, body, signal }))
    requireSameModel(verdict.model, model)
    return verdict.logprobs
  }
  const folder = await folders.pathOfPair(`head-${hiddenSize}-${vocabSize}`, () =>
    headPair(hiddenSize, vocabSize),
  )
  const isPrepared = await whileLoaded(transport, new Map([[name, folder]]), signal, async () => {
    const [before, after] = [await read(base), await read(name)]
    return [0, 1].some((id) => !(Math.abs(after[id]! - before[id]!) < leastChange))
  })
  if (isPrepared !== true) return
  refuse(
    'it prepares lm_head for adapters, and prompt_logprobs beside another request then end its engine ' +
      `on a processor: start it with --lora-target-modules ${linearModules.join(' ')}`,
  )
}

/** Of the stream that runs beside the base; it is closed long before. */
const besideTokens = 256
const besideMs = 60_000

/**
 * On a processor vLLM reads rows of the base with the adapter of its last slot while an adapter's request runs
 * beside them. So every slot gets an adapter that changes whatever is read with it, and the base is asked beside
 * a stream of one of them. Right is what an adapter that changes nothing gives.
 * `countSlots`: asked once it has had a request. `tokens`: no text begins so, since what is wrong stays in
 * the upstream's cache of the base.
 */
export async function confusesBase(
  { transport, folders }: CheckParts,
  config: ModelConfig,
  { name: base, maxContext }: UpstreamModel,
  countSlots: () => Promise<number>,
  tokens: readonly number[],
  signal: AbortSignal,
): Promise<boolean> {
  const { hiddenSize, intermediateSize } = config
  const id = randomUUID()
  const blank = `blank-${id}`
  const loud = await folders.pathOfPair(`loud-${hiddenSize}-${intermediateSize}`, () =>
    loudPair(hiddenSize, intermediateSize),
  )
  const read = async (model: string): Promise<Fingerprint> => {
    return { texts: [{ tokens, logprobs: await readLogprobs(transport, model, tokens, signal) }] }
  }

  async function readBeside(model: string): Promise<Fingerprint> {
    const numTokens = Math.min(besideTokens, maxContext - tokens.length)
    const body = endlessBody(model, tokens, numTokens)
    const answer = await transport.open({ method: 'POST', path, body, signal })
    const options = { model, numTop: null, namedTokens: [], silenceMs: besideMs, signal }
    const running = readStream(answer, options)
    try {
      await running.next()
      return await read(base)
    } finally {
      await running.return(undefined)
    }
  }

  const byItself = new Map([[blank, await folders.pathOf(blankSet(config, 1))]])
  const right = await whileLoaded(transport, byItself, signal, () => read(blank))
  if (right === null) return false
  const names = Array.from({ length: await countSlots() }, (_, i) => `loud-${i}-${id}`)
  const everySlot = new Map(names.map((name) => [name, loud]))
  const seen = await whileLoaded(transport, everySlot, signal, async () => {
    for (const name of names) await read(name)
    return await readBeside(names.at(-1)!)
  })
  return seen !== null && !isSameBase(right, seen)
}

/** An adapter of that rank that changes nothing: it tells whether one would be loaded. */
export function blankSet(config: ModelConfig, rank: number): AdapterSet {
  const { hiddenSize, intermediateSize } = config
  const a = new Float32Array(hiddenSize)
  const b = new Float32Array(intermediateSize)
  const component = [{ layer: 0, module: 'up_proj', a, b } as const]
  const digest = `blank-${hiddenSize}-${intermediateSize}-${rank}`
  return {
    applied: [{ id: 'blank', digest, scale: 1 }],
    components: Array.from({ length: rank }, () => ({ component, scale: 1 })),
  }
}

/** null: it does not say. */
export interface UpstreamMetrics {
  readonly maxLoras: number | null
  /** 0–1 */
  readonly kvUsage: number | null
  /** When its process began, as it writes it: another one has other adapters, and maybe another base. */
  readonly startedAt: string | null
}

export async function readMetrics(
  transport: Transport,
  signal: AbortSignal,
): Promise<UpstreamMetrics> {
  const text = await transport.text({ method: 'GET', path: '/metrics', signal })
  const loras = /^vllm:lora_requests_info\{[^}]*max_lora="(\d+)"/m.exec(text)?.[1]
  const usage = /^vllm:kv_cache_usage_perc(?:\{[^}]*\})? (\S+)$/m.exec(text)?.[1]
  return {
    maxLoras: Number(loras) > 0 ? Number(loras) : null,
    kvUsage: usage !== undefined && Number.isFinite(Number(usage)) ? Number(usage) : null,
    startedAt: /^process_start_time_seconds (\S+)$/m.exec(text)?.[1] ?? null,
  }
}

/** Nothing that a model says by itself after a fixed text. */
const unlikely = 'zq7'

/** Whether it keeps an answer to structured_outputs: one that does not know the field ignores it. */
export async function constrainsAnswers(
  transport: Transport,
  { name }: UpstreamModel,
  tokens: readonly number[],
  signal: AbortSignal,
): Promise<boolean> {
  const body = constrainedBody(name, tokens, unlikely)
  try {
    return parseText(await transport.text({ method: 'POST', path, body, signal })) === unlikely
  } catch (error) {
    // It knows the field and cannot do it: without a tokenizer, say.
    if (error instanceof UpstreamFailure && error.kind === 'refused') return false
    throw error
  }
}

/** Whether it tells how much of a prompt was cached: the same one twice. */
export async function tellsCachedTokens(
  transport: Transport,
  { name }: UpstreamModel,
  tokens: readonly number[],
  signal: AbortSignal,
): Promise<boolean> {
  const fields = { model: name, prompt: tokens, max_tokens: 1, temperature: 0 }
  const call = { method: 'POST', path, body: JSON.stringify(fields), signal } as const
  await transport.text(call)
  return parseChunk(await transport.text(call), null).cachedTokens !== null
}
