// The body of POST /v1/chat/completions, parsed into what the engine is asked for.

import { z } from 'zod'
import type { AdapterSelection } from '../../contracts/adapter.ts'
import type { ModelInfo } from '../../contracts/engine.ts'
import type { GenerateRequest } from '../../contracts/generation.ts'
import { ServerError } from '../../errors.ts'
import { fieldError } from './field-error.ts'
import { rejectUnsupported, unknownFields } from './field-rules.ts'
import { parseMessages } from './messages.ts'
import { checkPromptSize } from './prompt-size.ts'
import {
  checkTogether,
  maxTopLogprobs,
  resolveMaxTokens,
  resolveSampling,
  samplingFields,
} from './sampling-fields.ts'

export const chatSchema = z.object({
  ...samplingFields,
  messages: z.unknown().optional(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(maxTopLogprobs).nullish(),
  include_reasoning: z.boolean().nullish(),
  // It would show the rendered template.
  echo: z.literal(false).nullish(),
  // The template brings the special tokens itself.
  add_special_tokens: z.literal(false).nullish(),
})

export type ChatFields = z.infer<typeof chatSchema>

export interface ParsedChat {
  readonly fields: ChatFields
  readonly unknown: readonly string[]
  /** The request but for its id and adapters. */
  readonly request: Omit<GenerateRequest, 'id' | keyof AdapterSelection>
}

export const parseChat = (
  body: Readonly<Record<string, unknown>>,
  model: ModelInfo,
): ParsedChat => {
  rejectUnsupported(body)
  const result = chatSchema.safeParse(body)
  if (!result.success) throw fieldError(result.error, body)
  const fields = result.data
  const prompt = { kind: 'messages', messages: parseMessages(fields.messages) } as const
  checkPromptSize(prompt, 'messages', model)
  checkTogether(fields)
  if (fields.top_logprobs != null && fields.logprobs !== true) {
    throw new ServerError('invalid_value', 'top_logprobs is only allowed with "logprobs": true', {
      param: 'top_logprobs',
    })
  }
  return {
    fields,
    unknown: unknownFields(body, chatSchema.shape),
    request: {
      prompt,
      sampling: resolveSampling(fields, model),
      n: fields.n ?? 1,
      maxTokens: resolveMaxTokens(fields, model),
      echo: false,
      promptLogprobs: fields.prompt_logprobs ?? null,
      topLogprobs: fields.logprobs ? (fields.top_logprobs ?? 0) : null,
      splitReasoning: true,
    },
  }
}
