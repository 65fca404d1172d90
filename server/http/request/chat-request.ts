// The body of POST /v1/chat/completions, parsed into what the engine is asked for.

import { z } from 'zod'
import type { ModelInfo } from '../../contracts/engine.ts'
import type { JsonObject } from '../../contracts/json.ts'
import { ServerError } from '../../errors.ts'
import { rejectUnsupported, unknownFields } from './field-rules.ts'
import { parseMessages } from './messages.ts'
import { type ParsedRequest, parseFields } from './parsed-request.ts'
import { checkPromptSize } from './prompt-size.ts'
import {
  checkTogether,
  maxTopLogprobs,
  resolveMaxTokens,
  resolveSampling,
  samplingFields,
} from './sampling-fields.ts'
import { resolveChatInput, thinkingFields } from './thinking.ts'

export const chatSchema = z.object({
  ...samplingFields,
  messages: z.unknown().optional(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(maxTopLogprobs).nullish(),
  ...thinkingFields,
  // It would show the rendered template.
  echo: z.literal(false).nullish(),
  // The template brings the special tokens itself.
  add_special_tokens: z.literal(false).nullish(),
})

export type ChatFields = z.infer<typeof chatSchema>

export function parseChat(body: JsonObject, model: ModelInfo): ParsedRequest<ChatFields> {
  rejectUnsupported(body)
  const fields = parseFields(chatSchema, body)
  const messages = parseMessages(fields.messages)
  const input = resolveChatInput(fields, messages, fields.messages)
  const prompt = { kind: 'messages', ...input } as const
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
    requests: [
      {
        prompt,
        sampling: resolveSampling(fields, model),
        n: fields.n ?? 1,
        maxTokens: resolveMaxTokens(fields, model),
        echo: false,
        promptLogprobs: fields.prompt_logprobs ?? null,
        topLogprobs: fields.logprobs ? (fields.top_logprobs ?? 0) : null,
        splitReasoning: true,
      },
    ],
  }
}
