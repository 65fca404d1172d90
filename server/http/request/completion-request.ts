// The body of POST /v1/completions. Several prompts become several engine requests; choice j of
// prompt i has the index i · n + j.

import { z } from 'zod'
import type { ModelInfo } from '../../contracts/engine.ts'
import type { Prompt } from '../../contracts/generation.ts'
import type { JsonObject } from '../../contracts/json.ts'
import { ServerError } from '../../errors.ts'
import { wrong } from './field-error.ts'
import type { ReadFields } from './field-rules.ts'
import { formatFields, resolveFormat } from './output-format.ts'
import { type ParsedRequest, parseBody, parseFields } from './parsed-request.ts'
import { checkPromptSize } from './prompt-size.ts'
import { quote } from './quote.ts'
import {
  checkCost,
  checkTogether,
  maxTopLogprobs,
  resolveMaxTokens,
  resolveReport,
  resolveSampling,
  resolveTruncation,
  samplingFields,
} from './sampling-fields.ts'

const maxPrompts = 128

export const completionSchema = z.object({
  ...samplingFields,
  ...formatFields,
  prompt: z.unknown().optional(),
  logprobs: z.int().min(0).max(maxTopLogprobs).nullish(),
  echo: z.boolean().nullish(),
  // 0 asks for nothing but what is said of the prompt.
  max_tokens: z.int().min(0).nullish(),
  // false: the text of a prompt is all there is of it.
  add_special_tokens: z.boolean().nullish(),
})

export type CompletionFields = z.infer<typeof completionSchema>

/** Token ids of this model; the longest list is the context. */
export function parseTokens(value: unknown, param: string, model: ModelInfo): number[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw wrong(param, `must be a non-empty list of token ids; got ${quote(value)}`)
  }
  if (value.length > model.maxContext) {
    throw new ServerError(
      'context_length_exceeded',
      `${param} has ${value.length} tokens and the context is ${model.maxContext} (--max-context); shorten it`,
      { param },
    )
  }
  for (const id of value) {
    if (Number.isInteger(id) && id >= 0 && id < model.vocabSize) continue
    throw wrong(param, `must hold token ids from 0 to ${model.vocabSize - 1}; got ${quote(id)}`)
  }
  return value
}

function parsePrompts(
  value: unknown,
  addSpecialTokens: boolean,
  model: ModelInfo,
): readonly Prompt[] {
  function textPrompt(text: string): Prompt {
    const prompt = { kind: 'text', text: text.toWellFormed() } as const
    return addSpecialTokens ? prompt : { ...prompt, addSpecialTokens: false }
  }

  if (typeof value === 'string') return [textPrompt(value)]
  if (!Array.isArray(value) || value.length === 0) {
    throw wrong(
      'prompt',
      `must be a string, a list of strings or of token ids; got ${quote(value)}`,
    )
  }
  if (typeof value[0] === 'number') {
    return [{ kind: 'tokens', tokens: parseTokens(value, 'prompt', model) }]
  }
  if (value.length > maxPrompts) {
    throw wrong('prompt', `may hold ${maxPrompts} prompts; got ${value.length}`)
  }
  return value.map((prompt, i): Prompt => {
    const param = `prompt.${i}`
    if (typeof prompt === 'string') return textPrompt(prompt)
    return { kind: 'tokens', tokens: parseTokens(prompt, param, model) }
  })
}

/** Alternatives for each token of the prompt: prompt_logprobs, or logprobs where it is echoed. */
function wantedOfPrompt({ echo, logprobs, prompt_logprobs }: CompletionFields): number | null {
  const echoed = echo === true ? (logprobs ?? null) : null
  if (prompt_logprobs == null || echoed === null) return prompt_logprobs ?? echoed
  return Math.max(prompt_logprobs, echoed)
}

export function parseCompletion(
  body: JsonObject,
  model: ModelInfo,
): ParsedRequest<CompletionFields> {
  return parseBody(body, 'completions', (read) => parse(read, model))
}

function parse(read: ReadFields, model: ModelInfo): ParsedRequest<CompletionFields> {
  const fields = parseFields(completionSchema, read.body)
  const prompts = parsePrompts(fields.prompt, fields.add_special_tokens ?? true, model)
  const isCut = resolveTruncation(fields, model)
  for (const [i, prompt] of isCut ? [] : prompts.entries()) {
    checkPromptSize(prompt, Array.isArray(fields.prompt) ? `prompt.${i}` : 'prompt', model)
  }
  checkTogether(fields)
  const maxTokens = resolveMaxTokens(fields, model)
  const n = fields.n ?? 1
  checkCost({ n, maxTokens, numPrompts: prompts.length }, model)
  const asksOfPrompt = fields.echo === true || fields.prompt_logprobs != null
  if (fields.max_tokens === 0 && !asksOfPrompt) {
    throw wrong('max_tokens', 'must be ≥ 1; 0 is for "echo": true or prompt_logprobs; got 0')
  }
  const shared = {
    sampling: resolveSampling(fields, model),
    n,
    maxTokens,
    echo: fields.echo ?? false,
    promptLogprobs: wantedOfPrompt(fields),
    topLogprobs: fields.logprobs ?? null,
    ...resolveReport(fields, fields.logprobs != null),
    splitReasoning: false,
    ...resolveFormat(fields, read),
  }
  return {
    fields,
    read,
    // Each prompt has the same seed, so that its answer does not depend on its neighbours.
    requests: prompts.map((prompt) => ({ ...shared, prompt })),
  }
}
