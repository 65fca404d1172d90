// The body of POST /v1/chat/completions, parsed into what the engine is asked for.

import { z } from 'zod'
import type { ModelInfo } from '../../contracts/engine.ts'
import type { JsonObject } from '../../contracts/json.ts'
import { ServerError } from '../../errors.ts'
import type { ReadFields } from './field-rules.ts'
import { parseMessages } from './messages.ts'
import { formatFields, resolveFormat } from './output-format.ts'
import { type ParsedRequest, parseBody, parseFields } from './parsed-request.ts'
import { checkPromptSize } from './prompt-size.ts'
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
import { resolveChatInput, thinkingFields } from './thinking.ts'

export const chatSchema = z.object({
  ...samplingFields,
  ...formatFields,
  messages: z.unknown().optional(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(maxTopLogprobs).nullish(),
  ...thinkingFields,
  tools: z.unknown().optional(),
  tool_choice: z.unknown().optional(),
  parallel_tool_calls: z.boolean().nullish(),
})

export type ChatFields = z.infer<typeof chatSchema>

export function parseChat(body: JsonObject, model: ModelInfo): ParsedRequest<ChatFields> {
  return parseBody(body, 'chat', (read) => parse(read, model))
}

function parse(read: ReadFields, model: ModelInfo): ParsedRequest<ChatFields> {
  const fields = parseFields(chatSchema, read.body)
  const messages = parseMessages(fields.messages)
  const input = resolveChatInput(fields, messages, fields.messages)
  const prompt = { kind: 'messages', ...input } as const
  if (!resolveTruncation(fields, model)) checkPromptSize(prompt, 'messages', model)
  checkTogether(fields)
  const maxTokens = resolveMaxTokens(fields, model)
  const n = fields.n ?? 1
  checkCost({ n, maxTokens, numPrompts: 1 }, model)
  // With logprobs false, or at 0, it asks for nothing.
  if (fields.top_logprobs && fields.logprobs == null) {
    throw new ServerError('invalid_value', 'top_logprobs is only allowed with "logprobs": true', {
      param: 'top_logprobs',
    })
  }
  return {
    fields,
    read,
    requests: [
      {
        prompt,
        sampling: resolveSampling(fields, model),
        n,
        maxTokens,
        echo: false,
        promptLogprobs: fields.prompt_logprobs ?? null,
        topLogprobs: fields.logprobs ? (fields.top_logprobs ?? 0) : null,
        ...resolveReport(fields, fields.logprobs ?? false),
        splitReasoning: true,
        ...resolveFormat(fields, read),
      },
    ],
  }
}
