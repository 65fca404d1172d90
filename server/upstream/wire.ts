// What vLLM answers, as far as this front reads it. Everything is checked here, and nothing of it goes to a
// client as it came.

import { z } from 'zod'
import type { RankedPlace, RankedToken, SampledToken } from '../sampling/logprobs.ts'
import { type ErrorAnswer, failureOf, UpstreamFailure } from './failure.ts'

const logprob = z.number().nullable()

const logprobsSchema = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(logprob),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
})

const usageSchema = z.object({
  prompt_tokens_details: z.object({ cached_tokens: z.int().nullish() }).nullish(),
})

const chunkSchema = z.object({
  model: z.string(),
  choices: z.array(
    z.object({
      token_ids: z.array(z.int().min(0)).nullish(),
      logprobs: logprobsSchema.nullish(),
      finish_reason: z.string().nullish(),
      prompt_logprobs: z
        .array(
          z
            .record(
              z.string(),
              z.object({ logprob: z.number().nullable(), rank: z.int().nullish() }),
            )
            .nullable(),
        )
        .nullish(),
    }),
  ),
  usage: usageSchema.nullish(),
})

const modelsSchema = z.object({
  data: z.array(
    z.object({
      id: z.string(),
      parent: z.string().nullish(),
      root: z.string().nullish(),
      max_model_len: z.int().min(1).nullish(),
    }),
  ),
})

const textSchema = z.object({ choices: z.array(z.object({ text: z.string() })) })

const tokenizedSchema = z.object({ tokens: z.array(z.int().min(0)) })

const errorSchema = z.object({
  error: z.object({ param: z.string().nullish(), code: z.int().nullish().catch(null) }),
})

export type UpstreamModels = z.infer<typeof modelsSchema>['data']

/** One event of a stream, or the whole answer of a call without one. */
export interface Chunk {
  /** Who it says has answered. */
  readonly model: string
  readonly tokens: readonly SampledToken[]
  /** null: it goes on. */
  readonly finish: 'stop' | 'length' | null
  /** null: not told. */
  readonly cachedTokens: number | null
  /** Of each token after the first; null: not asked for. */
  readonly prompt: readonly RankedPlace[] | null
}

function parse<T>(schema: z.ZodType<T>, text: string): T {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw new UpstreamFailure('broken', 'its answer is no JSON', { cause })
  }
  const result = schema.safeParse(json)
  if (result.success) return result.data
  // A stream has its status before it has an answer: what fails then is told in its place.
  const told = errorSchema.safeParse(json).data?.error
  if (told) throw failureOf(told.code ?? 500, { param: told.param ?? null })
  throw new UpstreamFailure('broken', 'another shape', { cause: result.error })
}

export const parseModels = (text: string): UpstreamModels => parse(modelsSchema, text).data
export const parseTokens = (text: string): readonly number[] => parse(tokenizedSchema, text).tokens

export function errorAnswer(text: string): ErrorAnswer {
  try {
    return { param: errorSchema.parse(JSON.parse(text)).error.param ?? null }
  } catch {
    return { param: null }
  }
}

interface ParseOptions {
  /** Whose log-probabilities are wanted. */
  readonly prompt?: { readonly tokens: readonly number[]; readonly numTop: number }
  /** Tokens that were asked for in place of the likeliest. */
  readonly named?: readonly number[]
}

/** `numTop`: how many alternatives of a token are kept; null: no logprobs were asked for. */
export function parseChunk(
  text: string,
  numTop: number | null,
  { prompt, named = [] }: ParseOptions = {},
): Chunk {
  const { model, choices, usage } = parse(chunkSchema, text)
  const choice = choices[0]
  const ids = choice?.token_ids ?? []
  return {
    model,
    tokens: ids.map((id, i) => ({
      id,
      logprobs: logprobsAt(choice?.logprobs, i, id, numTop, named),
    })),
    finish: finishOf(choice?.finish_reason),
    cachedTokens: usage?.prompt_tokens_details?.cached_tokens ?? null,
    prompt:
      prompt === undefined
        ? null
        : promptPlaces(choice?.prompt_logprobs, prompt.tokens, prompt.numTop),
  }
}

/** The text of a whole answer. */
export function parseText(text: string): string {
  return parse(textSchema, text).choices[0]?.text ?? ''
}

/** Log-probabilities of the one token that was generated, and of those that were named. */
export function parseVerdict(text: string): {
  readonly model: string
  readonly logprobs: Readonly<Record<number, number>>
} {
  const { model, choices } = parse(chunkSchema, text)
  const likely = choices[0]?.logprobs?.top_logprobs[0] ?? {}
  const logprobs = Object.entries(likely).map(([name, logprob]) => [idOf(name), logprob] as const)
  return { model, logprobs: Object.fromEntries(logprobs) }
}

function finishOf(reason: string | null | undefined): Chunk['finish'] {
  if (reason === null || reason === undefined) return null
  if (reason === 'stop' || reason === 'length') return reason
  // It is being shut down: what it has not begun, another one may.
  throw new UpstreamFailure('outage', 'it aborted the request')
}

function logprobsAt(
  logprobs: z.infer<typeof logprobsSchema> | null | undefined,
  at: number,
  id: number,
  numTop: number | null,
  named: readonly number[],
): SampledToken['logprobs'] {
  if (numTop === null) return null
  const own = logprobs?.token_logprobs[at]
  const likely = logprobs?.top_logprobs[at]
  if (own === undefined || own === null || !likely) {
    throw new UpstreamFailure('broken', 'a token without its log-probability')
  }
  const all = Object.entries(likely).map(([name, logprob]) => ({ id: idOf(name), logprob }))
  const top = named.length === 0 ? best(all, numTop) : named.map((one) => pick(all, one))
  return { sampled: { id, logprob: own }, top }
}

function pick(tokens: readonly RankedToken[], id: number): RankedToken {
  const token = tokens.find((one) => one.id === id)
  if (token === undefined)
    throw new UpstreamFailure('broken', 'a token that was asked for is missing')
  return token
}

/** "token_id:42" */
function idOf(name: string): number {
  const id = /^token_id:(\d+)$/.exec(name)?.[1]
  if (id === undefined) throw new UpstreamFailure('broken', 'a token without its id')
  return Number(id)
}

/** The sampled token comes beside the likeliest, whatever its rank. */
function best(tokens: readonly RankedToken[], count: number): RankedToken[] {
  return tokens.toSorted((x, y) => y.logprob - x.logprob || x.id - y.id).slice(0, count)
}

type PromptLogprobs = readonly (Readonly<
  Record<string, { readonly logprob: number | null; readonly rank?: number | null | undefined }>
> | null)[]

function promptPlaces(
  listed: PromptLogprobs | null | undefined,
  tokens: readonly number[],
  numTop: number,
): RankedPlace[] {
  if (listed?.length !== tokens.length) {
    throw new UpstreamFailure('broken', 'log-probabilities of another prompt')
  }
  return tokens.slice(1).map((id, i) => {
    const entry = listed[i + 1] ?? {}
    const all = Object.entries(entry).map(([name, { logprob }]) => ({
      id: Number(name),
      logprob: logprob ?? Number.NaN,
    }))
    const own = entry[String(id)]
    const sampled = { id, logprob: own?.logprob ?? Number.NaN }
    return { sampled, rank: own?.rank ?? 0, top: best(all, numTop) }
  })
}
