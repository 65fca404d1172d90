// POST /v1/chat/completions and POST /v1/completions.

import type { ModelInfo } from '../contracts/engine.ts'
import type { JsonObject } from '../contracts/json.ts'
import { escapeUnprinted } from '../contracts/printable.ts'
import type { RequestContext, Route, Services } from './context.ts'
import { createChatReply } from './reply/chat-reply.ts'
import { createCompletionReply } from './reply/completion-reply.ts'
import type { Reply, ReplyHead } from './reply/reply.ts'
import { parseChat } from './request/chat-request.ts'
import { parseCompletion } from './request/completion-request.ts'
import { type ReadFields, spelledOut } from './request/field-rules.ts'
import type { ParsedRequest } from './request/parsed-request.ts'
import type { SamplingFields } from './request/sampling-fields.ts'
import { hidesThought } from './request/thinking.ts'
import { readJson, requireModel, resolveTarget } from './request-target.ts'
import { replyId, runGeneration } from './run-generation.ts'

export function completionRoutes(services: Services): readonly Route[] {
  const { reasoningField } = services.config
  return [
    completionRoute(services, {
      path: '/v1/chat/completions',
      summary: 'Answer a chat, as one body or as server-sent events',
      idPrefix: 'chatcmpl',
      parse: parseChat,
      reply: (fields, head) =>
        createChatReply({
          ...head,
          logprobs: fields.logprobs ?? false,
          promptLogprobs: fields.prompt_logprobs ?? null,
          reasoningField: hidesThought(fields) ? 'none' : reasoningField,
        }),
    }),
    completionRoute(services, {
      path: '/v1/completions',
      summary: 'Continue one or several prompts, as one body or as server-sent events',
      idPrefix: 'cmpl',
      parse: parseCompletion,
      reply: (fields, head) =>
        createCompletionReply({
          ...head,
          choicesPerPrompt: fields.n ?? 1,
          logprobs: fields.logprobs ?? null,
          echo: fields.echo ?? false,
          promptLogprobs: fields.prompt_logprobs ?? null,
        }),
    }),
  ]
}

/** Names the fields that the answer did without, such as tools that it did not have to use. */
const unusedHeader = 'x-dutyfree-ignored'

interface CompletionRoute<Fields> {
  readonly path: string
  readonly summary: string
  readonly idPrefix: Parameters<typeof replyId>[0]
  readonly parse: (body: JsonObject, model: ModelInfo) => ParsedRequest<Fields>
  readonly reply: (fields: Fields, head: ReplyHead) => Reply
}

function logReading(context: RequestContext, { unknown, unused }: ReadFields): void {
  context.set('logFields', {
    ...(unknown.length === 0 ? {} : { unknownFields: unknown.map(escapeUnprinted) }),
    ...(unused.length === 0 ? {} : { ignoredFields: unused }),
  })
}

/** One route: its body parsed, its model and adapters resolved, its reply run. */
function completionRoute<Fields extends SamplingFields>(
  services: Services,
  { path, summary, idPrefix, parse, reply }: CompletionRoute<Fields>,
): Route {
  async function handle(context: RequestContext): Promise<Response> {
    const body = await readJson(context, services)
    const { fields, requests, read } = parse(body, requireModel(services))
    logReading(context, read)
    const { selection, modelName } = await resolveTarget(context, services, fields).catch(
      (error: unknown) => {
        throw spelledOut(error, read)
      },
    )
    const head = {
      id: replyId(idPrefix),
      created: services.clock.unixSeconds(),
      model: modelName,
      n: (fields.n ?? 1) * requests.length,
      stream: {
        includeUsage: fields.stream_options?.include_usage ?? false,
        continuousUsage: fields.stream_options?.continuous_usage_stats ?? false,
      },
    }
    return runGeneration(context, services, {
      id: head.id,
      requests: requests.map((request) => ({ ...request, ...selection })),
      stream: fields.stream ?? false,
      reply: reply(fields, head),
      headers: read.unused.length === 0 ? {} : { [unusedHeader]: read.unused.join(', ') },
    })
  }

  return { method: 'POST', path, summary, handle }
}
