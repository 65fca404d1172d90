// POST /v1/chat/completions and POST /v1/completions.

import type { RequestContext, Route, Services } from './context.ts'
import { createChatReply } from './reply/chat-reply.ts'
import { createCompletionReply } from './reply/completion-reply.ts'
import type { StreamOptions } from './reply/reply.ts'
import type { JsonObject } from './request/body.ts'
import { readJsonObject } from './request/body.ts'
import { parseChat } from './request/chat-request.ts'
import { parseCompletion } from './request/completion-request.ts'
import type { SamplingFields } from './request/sampling-fields.ts'
import { requireModel, resolveTarget } from './request-target.ts'
import { replyId, runGeneration } from './run-generation.ts'

const streamOptions = (fields: SamplingFields): StreamOptions => ({
  includeUsage: fields.stream_options?.include_usage ?? false,
  continuousUsage: fields.stream_options?.continuous_usage_stats ?? false,
})

const logUnknown = (context: RequestContext, names: readonly string[]) => {
  if (names.length > 0) context.set('logFields', { unknownFields: names })
}

export const completionRoutes = (services: Services): readonly Route[] => {
  const { config, clock } = services

  /** What both routes do before they differ. */
  const begin = async (context: RequestContext): Promise<JsonObject> => {
    const body = await readJsonObject(context.req.raw, config.maxBody)
    requireModel(services)
    return body
  }

  return [
    {
      method: 'POST',
      path: '/v1/chat/completions',
      summary: 'Answer a chat, as one body or as server-sent events',
      async handle(context) {
        const body = await begin(context)
        const { fields, request, unknown } = parseChat(body, requireModel(services))
        logUnknown(context, unknown)
        const { selection, modelName } = await resolveTarget(context, services, fields)
        const id = replyId('chatcmpl')
        const reply = createChatReply({
          id,
          created: clock.unixSeconds(),
          model: modelName,
          n: request.n,
          logprobs: request.topLogprobs !== null,
          promptLogprobs: request.promptLogprobs,
          reasoningField: fields.include_reasoning === false ? 'none' : config.reasoningField,
          stream: streamOptions(fields),
        })
        const requests = [{ ...request, ...selection }]
        return runGeneration(context, services, {
          id,
          requests,
          stream: fields.stream ?? false,
          reply,
        })
      },
    },
    {
      method: 'POST',
      path: '/v1/completions',
      summary: 'Continue one or several prompts, as one body or as server-sent events',
      async handle(context) {
        const body = await begin(context)
        const { fields, requests, unknown } = parseCompletion(body, requireModel(services))
        logUnknown(context, unknown)
        const { selection, modelName } = await resolveTarget(context, services, fields)
        const id = replyId('cmpl')
        const reply = createCompletionReply({
          id,
          created: clock.unixSeconds(),
          model: modelName,
          n: (fields.n ?? 1) * requests.length,
          choicesPerPrompt: fields.n ?? 1,
          logprobs: fields.logprobs ?? null,
          echo: fields.echo ?? false,
          promptLogprobs: fields.prompt_logprobs ?? null,
          stream: streamOptions(fields),
        })
        return runGeneration(context, services, {
          id,
          requests: requests.map((request) => ({ ...request, ...selection })),
          stream: fields.stream ?? false,
          reply,
        })
      },
    },
  ]
}
