// What this front asks of vLLM, in one place. Prompts are token ids, `model` always stands there (without it
// the base answers), and no default of the other side counts.
//
// | ours | vLLM |
// | --- | --- |
// | prompt, whatever its kind | prompt: token ids |
// | adapters and strengths | model: the name of a folder that holds them |
// | temperature, topP, topK, minP, penalties | the same; always sent |
// | logitBias | logit_bias, by token id |
// | allowedTokens, badWords | allowed_token_ids, bad_words |
// | minTokens | min_tokens |
// | end tokens: eos unless ignoreEos, stopTokenIds | stop_token_ids, with ignore_eos: true |
// | stop strings | not sent: they act on our text, and the connection is closed |
// | seed + index of the choice | seed; after an escalation it begins anew |
// | n | one stream a choice; of greedy ones one for all (choice-run.ts) |
// | topLogprobs | logprobs, with return_tokens_as_token_ids |
// | logprobTokens, without topLogprobs | logprob_token_ids: they come in place of the likeliest |
// | constraint | structured_outputs: one of json, json_object, regex, choice, grammar |
// | promptLogprobs | prompt_logprobs, in a call of its own before the stream |
// | echo | not sent: the prompt is here |
// | a verdict | max_tokens: 1, logprob_token_ids: the guard's labels |

import type { OutputConstraint } from '../contracts/constraint.ts'
import type { SamplingParams } from '../contracts/generation.ts'

export interface StreamAsk {
  readonly tokens: readonly number[]
  readonly sampling: SamplingParams
  /** Of the choice. */
  readonly seed: bigint
  readonly endTokens: readonly number[]
  readonly maxTokens: number
  /** Of them, before an end token may come. */
  readonly minTokens: number
  readonly topLogprobs: number | null
  /** Reported in place of the likeliest. */
  readonly namedTokens: readonly number[]
  /** From the first token on. */
  readonly constraint: UpstreamConstraint | null
}

/** What vLLM can be asked for. */
export type UpstreamConstraint = Exclude<OutputConstraint, { kind: 'tool_calls' }>

export function streamBody(model: string, ask: StreamAsk): string {
  const { sampling, topLogprobs, namedTokens, constraint } = ask
  const body = {
    model,
    prompt: ask.tokens,
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: ask.maxTokens,
    min_tokens: ask.minTokens,
    temperature: sampling.temperature,
    top_p: sampling.topP,
    top_k: sampling.topK,
    min_p: sampling.minP,
    presence_penalty: sampling.presencePenalty,
    frequency_penalty: sampling.frequencyPenalty,
    repetition_penalty: sampling.repetitionPenalty,
    ...(sampling.logitBias.length > 0 && { logit_bias: Object.fromEntries(sampling.logitBias) }),
    ...(sampling.allowedTokens !== null && { allowed_token_ids: sampling.allowedTokens }),
    ...(sampling.badWords.length > 0 && { bad_words: sampling.badWords }),
    stop_token_ids: ask.endTokens,
    ignore_eos: true,
    ...textless,
    ...(topLogprobs !== null && { logprobs: topLogprobs }),
    ...(namedTokens.length > 0 && { logprob_token_ids: namedTokens }),
    ...(constraint !== null && { structured_outputs: structuredOutputs(constraint) }),
  }
  return withSeed(body, ask.seed)
}

/** Exactly one field, by the names of vLLM's StructuredOutputsParams. */
function structuredOutputs(constraint: UpstreamConstraint): object {
  switch (constraint.kind) {
    case 'json_object':
      return { json_object: true }
    case 'json_schema':
      return { json: constraint.schema }
    case 'regex':
      return { regex: constraint.pattern }
    case 'choice':
      return { choice: constraint.choices }
    case 'grammar':
      return { grammar: constraint.text }
  }
}

/** An answer that can only be `text`, where structured_outputs is known. */
export function constrainedBody(model: string, tokens: readonly number[], text: string): string {
  return JSON.stringify({
    model,
    prompt: tokens,
    max_tokens: 2 * text.length,
    temperature: 0,
    structured_outputs: structuredOutputs({ kind: 'choice', choices: [text] }),
    ...textless,
  })
}

/** Log-probabilities of the prompt; one token is generated, which nobody reads. */
export function promptBody(model: string, tokens: readonly number[], numTop: number): string {
  return JSON.stringify({
    model,
    prompt: tokens,
    max_tokens: 1,
    temperature: 0,
    prompt_logprobs: numTop,
    ...textless,
  })
}

/** A stream that goes on to its last token, whatever is said. */
export function endlessBody(model: string, tokens: readonly number[], numTokens: number): string {
  return JSON.stringify({
    model,
    prompt: tokens,
    max_tokens: numTokens,
    temperature: 0,
    ignore_eos: true,
    stream: true,
    ...textless,
  })
}

/** The log-probabilities of the `labels` after the tokens. */
export function verdictBody(
  model: string,
  tokens: readonly number[],
  labels: readonly number[],
): string {
  return JSON.stringify({
    model,
    prompt: tokens,
    max_tokens: 1,
    temperature: 0,
    logprobs: labels.length,
    logprob_token_ids: labels,
    ...textless,
  })
}

const textless = {
  add_special_tokens: false,
  return_token_ids: true,
  return_tokens_as_token_ids: true,
}

/** Seeds have 64 bits, which JSON.stringify cannot write as numbers. To vLLM −1 is none. */
function withSeed(body: object, seed: bigint): string {
  const signed = BigInt.asIntN(64, seed)
  return `${JSON.stringify(body).slice(0, -1)},"seed":${signed === -1n ? -2n : signed}}`
}
