// The request fields that chat and plain completions share, and their way to SamplingParams.
// Every bound that needs no model is here in zod; those that need the model are in `resolveSampling`.

import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import type { ModelInfo } from '../../contracts/engine.ts'
import type { SamplingParams } from '../../contracts/generation.ts'
import {
  keptTokens,
  minPRange,
  repetitionPenaltyRange,
  topKRange,
  topPRange,
} from '../../contracts/sampling-range.ts'
import { ServerError } from '../../errors.ts'
import { wrong } from './field-error.ts'
import { quote } from './quote.ts'

export const maxChoices = 128
/** Choices of all prompts of a request. */
const maxSequences = 1024
export const maxTopLogprobs = 20
const maxStopStrings = 64
const maxStopLength = 1024
/** Of all stop strings together, in characters. */
const maxStopTotal = 8192
const maxStopTokens = 64
const maxBiasedTokens = 1024
const modelNameLength = 1024
const maxBadWords = 128
const maxBadWordLength = 256
const maxLogprobTokens = 128

/** `null` is how many clients leave a field out. */
function between(min: number, max: number) {
  return z.number().min(min).max(max).nullish()
}

function count(min: number) {
  return z.int().min(min).nullish()
}

const stopString = z.string().min(1).max(maxStopLength)

export const samplingFields = {
  model: z.string().max(modelNameLength),
  adapter: z.unknown().optional(),
  adapter_id: z.unknown().optional(),
  lora: z.unknown().optional(),
  safety: z.unknown().optional(),
  moderation: z.unknown().optional(),
  temperature: between(0, 2),
  top_p: topPRange.nullish(),
  top_k: topKRange.nullish(),
  min_p: minPRange.nullish(),
  presence_penalty: between(-2, 2),
  frequency_penalty: between(-2, 2),
  repetition_penalty: repetitionPenaltyRange.nullish(),
  logit_bias: z.record(z.string(), z.unknown()).nullish(),
  min_tokens: count(0),
  ignore_eos: z.boolean().nullish(),
  max_tokens: count(1),
  max_completion_tokens: count(1),
  stop: z
    .union([stopString, z.array(stopString).max(maxStopStrings)], {
      error: `must be a string or a list of up to ${maxStopStrings} strings`,
    })
    .describe(`At most ${maxStopTotal} characters together`)
    .nullish(),
  stop_token_ids: z.array(z.int().min(0)).max(maxStopTokens).nullish(),
  include_stop_str_in_output: z.boolean().nullish(),
  bad_words: z
    .array(z.string().max(maxBadWordLength).regex(/\S/, { error: 'must hold a text' }))
    .max(maxBadWords)
    .nullish(),
  allowed_token_ids: z.array(z.int().min(0)).min(1).nullish(),
  skip_special_tokens: z.boolean().nullish(),
  truncate_prompt_tokens: count(1),
  return_token_ids: z.boolean().nullish(),
  logprob_token_ids: z.array(z.int().min(0)).max(maxLogprobTokens).nullish(),
  // int64; a number beyond 2^53 is taken as JSON parsed it, which is the same each time.
  seed: z
    .number()
    .min(-(2 ** 63))
    .max(2 ** 63)
    .refine(Number.isInteger, { error: 'must be a whole number' })
    .nullish(),
  n: z.number().nullish(),
  prompt_logprobs: z.int().min(0).max(maxTopLogprobs).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z
    .object({
      include_usage: z.boolean().nullish(),
      continuous_usage_stats: z.boolean().nullish(),
      include_obfuscation: z.boolean().nullish(),
      include_safety: z
        .boolean()
        .describe('A chunk of its own, without choices, at each verdict')
        .nullish(),
    })
    .nullish(),
}

export type SamplingFields = z.infer<z.ZodObject<typeof samplingFields>>

/** Fields that contradict each other. */
export function checkTogether(fields: SamplingFields): void {
  const n = fields.n ?? 1
  if (!Number.isInteger(n) || n < 1 || n > maxChoices) {
    throw new ServerError(
      'unsupported_value',
      `n must be a whole number from 1 to ${maxChoices}; got ${n}`,
      { param: 'n' },
    )
  }
  const stopLength = [fields.stop ?? []].flat().reduce((sum, { length }) => sum + length, 0)
  if (stopLength > maxStopTotal) {
    throw wrong('stop', `must have ≤ ${maxStopTotal} characters together; got ${stopLength}`)
  }
  const asksOfStream = Object.values(fields.stream_options ?? {}).some((value) => value === true)
  if (asksOfStream && !fields.stream) {
    throw wrong('stream_options', 'is only allowed with "stream": true')
  }
  if (fields.prompt_logprobs != null && fields.stream) {
    throw wrong('prompt_logprobs', 'comes with a whole answer only; leave "stream" out')
  }
  const { max_tokens: older, max_completion_tokens: newer } = fields
  if (older != null && newer != null && older !== newer) {
    throw wrong(
      'max_completion_tokens',
      `and max_tokens must agree; got ${newer} and ${older}; send one of them`,
    )
  }
  const maxTokens = older ?? newer
  if (maxTokens != null && (fields.min_tokens ?? 0) > maxTokens) {
    throw wrong('min_tokens', `must be ≤ max_tokens; got ${fields.min_tokens} and ${maxTokens}`)
  }
}

/**
 * What a request may ask for is bounded by what it costs: one prompt has up to maxChoices choices of
 * any length, several prompts share as many tokens.
 */
export function checkCost(
  { n, maxTokens, numPrompts }: { n: number; maxTokens: number | null; numPrompts: number },
  { maxContext }: ModelInfo,
): void {
  const numSequences = n * numPrompts
  const numTokens = numSequences * (maxTokens ?? maxContext)
  const mostTokens = maxChoices * maxContext

  function tooMuch(rule: string, got: number) {
    return new ServerError('unsupported_value', `${rule}; got ${got}; send several requests`, {
      param: 'n',
    })
  }

  if (numSequences > maxSequences) {
    throw tooMuch(`n × prompts must be ≤ ${maxSequences}`, numSequences)
  }
  if (numTokens > mostTokens) {
    throw tooMuch(
      `n × prompts × max_tokens must be ≤ ${mostTokens} (${maxChoices} × --max-context)`,
      numTokens,
    )
  }
}

/** Keys are token ids of this model, values biases; every wrong key is named. */
function parseLogitBias(
  bias: Readonly<Record<string, unknown>> | null | undefined,
  vocabSize: number,
): Array<readonly [number, number]> {
  const entries = Object.entries(bias ?? {})
  if (entries.length > maxBiasedTokens) {
    throw wrong('logit_bias', `may hold ${maxBiasedTokens} tokens; got ${entries.length}`)
  }
  const isToken = (key: string) => /^\d{1,9}$/.test(key) && Number(key) < vocabSize
  const isBias = (value: unknown) => typeof value === 'number' && Math.abs(value) <= 100
  const badEntries = entries.filter(([key, value]) => !isToken(key) || !isBias(value))
  if (badEntries.length > 0) {
    throw wrong(
      'logit_bias',
      `must map token ids from 0 to ${vocabSize - 1} to numbers from -100 to 100; wrong: ${badEntries
        .map(([key]) => quote(key))
        .join(', ')}`,
    )
  }
  return entries.map(([key, value]) => [Number(key), value as number])
}

export function resolveMaxTokens(fields: SamplingFields, model: ModelInfo): number | null {
  const maxTokens = fields.max_tokens ?? fields.max_completion_tokens ?? null
  if (maxTokens === null || maxTokens <= model.maxContext) return maxTokens
  const param = fields.max_tokens == null ? 'max_completion_tokens' : 'max_tokens'
  throw wrong(
    param,
    `must be ≤ ${model.maxContext} for this model (--max-context); got ${maxTokens}`,
  )
}

/** What is reported beside the text; `withLogprobs`: log-probabilities are. */
export function resolveReport(fields: SamplingFields, withLogprobs: boolean) {
  const logprobTokens = fields.logprob_token_ids ?? []
  if (logprobTokens.length > 0 && !withLogprobs) {
    throw wrong('logprob_token_ids', 'is only allowed with logprobs')
  }
  return {
    truncatePrompt: fields.truncate_prompt_tokens ?? null,
    logprobTokens,
    returnTokenIds: fields.return_token_ids ?? false,
  }
}

export function resolveTruncation(
  { truncate_prompt_tokens: last }: SamplingFields,
  { maxContext }: ModelInfo,
): boolean {
  if (last == null) return false
  if (last <= maxContext) return true
  throw wrong(
    'truncate_prompt_tokens',
    `must be ≤ ${maxContext} for this model (--max-context); got ${last}`,
  )
}

/** What the engine gets: every default resolved from the checkpoint's own. */
export function resolveSampling(
  fields: SamplingFields,
  model: ModelInfo,
  randomSeed: () => bigint = () => randomBytes(8).readBigInt64LE(),
): SamplingParams {
  const { defaults, vocabSize } = model
  for (const field of ['stop_token_ids', 'allowed_token_ids', 'logprob_token_ids'] as const) {
    const beyond = fields[field]?.find((id) => id >= vocabSize)
    if (beyond === undefined) continue
    throw wrong(field, `must be token ids below ${vocabSize}; got ${beyond}`)
  }
  return {
    temperature: fields.temperature ?? defaults.temperature,
    topP: fields.top_p ?? defaults.topP,
    topK: keptTokens(fields.top_k ?? defaults.topK),
    minP: fields.min_p ?? defaults.minP,
    presencePenalty: fields.presence_penalty ?? defaults.presencePenalty,
    frequencyPenalty: fields.frequency_penalty ?? defaults.frequencyPenalty,
    repetitionPenalty: fields.repetition_penalty ?? defaults.repetitionPenalty,
    logitBias: parseLogitBias(fields.logit_bias, vocabSize),
    minTokens: fields.min_tokens ?? 0,
    ignoreEos: fields.ignore_eos ?? false,
    stop: typeof fields.stop === 'string' ? [fields.stop] : (fields.stop ?? []),
    stopTokenIds: fields.stop_token_ids ?? [],
    includeStopInOutput: fields.include_stop_str_in_output ?? false,
    badWords: (fields.bad_words ?? []).map((word) => word.toWellFormed()),
    allowedTokens: fields.allowed_token_ids ?? null,
    skipSpecialTokens: fields.skip_special_tokens ?? true,
    seed: fields.seed == null ? randomSeed() : BigInt.asIntN(64, BigInt(fields.seed)),
  }
}
