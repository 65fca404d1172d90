// The routes that generate: chat and plain completions, responses, messages. One function resolves model,
// adapters and safety for all of them.

import type { ModelInfo } from '../contracts/engine.ts'
import type { JsonObject } from '../contracts/json.ts'
import { escapeUnprinted } from '../contracts/printable.ts'
import { ServerError } from '../errors.ts'
import type { RequestContext, Route, Services } from './context.ts'
import { createMessagesReply } from './dialects/messages-reply.ts'
import { parseMessagesBody } from './dialects/messages-request.ts'
import { createResponsesReply } from './dialects/responses-reply.ts'
import { parseResponses } from './dialects/responses-request.ts'
import { parseToolChat } from './dialects/tool-chat.ts'
import { anthropicError } from './error-response.ts'
import { createChatReply } from './reply/chat-reply.ts'
import { createCompletionReply } from './reply/completion-reply.ts'
import { createJudgedReply, type JudgedReplyOptions } from './reply/judged-reply.ts'
import type { Reply, ReplyHead, StreamFrame } from './reply/reply.ts'
import { createSafetyCount } from './reply/safety-field.ts'
import { parseCompletion } from './request/completion-request.ts'
import { type ReadFields, spelledOut } from './request/field-rules.ts'
import type { ParsedRequest } from './request/parsed-request.ts'
import type { SamplingFields } from './request/sampling-fields.ts'
import { hidesThought } from './request/thinking.ts'
import {
  clientOf,
  floorFor,
  readJson,
  requireAdapters,
  requireModel,
  resolveTarget,
} from './request-target.ts'
import { replyId, runGeneration } from './run-generation.ts'
import { refuseBegunAnswer } from './safety/begun-answer.ts'
import { parseSafety } from './safety/safety-fields.ts'
import { decideSafety } from './safety/safety-plan.ts'

export function completionRoutes(services: Services): readonly Route[] {
  const { reasoningField } = services.config
  return [
    completionRoute(services, {
      path: '/v1/chat/completions',
      summary: 'Answer a chat, as one body or as server-sent events',
      idPrefix: 'chatcmpl',
      parse: parseToolChat,
      reply: ({ fields, tools }, head) =>
        createJudgedReply(
          createChatReply({
            ...head,
            logprobs: fields.logprobs ?? false,
            promptLogprobs: fields.prompt_logprobs ?? null,
            tokenIds: fields.return_token_ids ?? false,
            tools: tools.reading,
            reasoningField: hidesThought(fields) ? 'none' : reasoningField,
          }),
          { ...head, object: 'chat.completion.chunk' },
        ),
    }),
    completionRoute(services, {
      path: '/v1/completions',
      summary: 'Continue one or several prompts, as one body or as server-sent events',
      idPrefix: 'cmpl',
      parse: parseCompletion,
      reply: ({ fields }, head) =>
        createJudgedReply(
          createCompletionReply({
            ...head,
            logprobs: fields.logprobs ?? null,
            echo: fields.echo ?? false,
            promptLogprobs: fields.prompt_logprobs ?? null,
            tokenIds: fields.return_token_ids ?? false,
          }),
          { ...head, object: 'text_completion' },
        ),
    }),
    completionRoute(services, {
      path: '/v1/responses',
      summary: 'OpenAI’s Responses, without memory',
      idPrefix: 'resp',
      parse: parseResponses,
      reply: ({ chat, echoed }, head) =>
        createResponsesReply({
          ...head,
          echoed,
          tools: chat.tools.reading,
          logprobs: chat.fields.logprobs ?? false,
          showsThought: reasoningField !== 'none' && !hidesThought(chat.fields),
        }),
      frame: (reply) => ({ isTyped: true, failure: reply.failure, end: null }),
    }),
    completionRoute(services, {
      path: '/v1/messages',
      summary: 'Anthropic’s Messages',
      idPrefix: 'msg',
      parse: parseMessagesBody,
      reply: ({ chat, showsThought }, head) =>
        createMessagesReply({
          ...head,
          tools: chat.tools.reading,
          showsThought: reasoningField !== 'none' && showsThought,
        }),
      frame: () => ({ isTyped: true, failure: (error) => anthropicError(error, null), end: null }),
    }),
  ]
}

/** Names the fields that the answer did without, such as tools that it did not have to use. */
const unusedHeader = 'x-dutyfree-ignored'

/** What every reply needs to know. */
type Head = ReplyHead & Omit<JudgedReplyOptions, 'object'>

interface CompletionRoute<Parsed, Answer extends Reply> {
  readonly path: string
  readonly summary: string
  readonly idPrefix: Parameters<typeof replyId>[0]
  readonly parse: (body: JsonObject, model: ModelInfo) => Parsed
  readonly reply: (parsed: Parsed, head: Head) => Answer
  /** OpenAI's chunks unless said. */
  readonly frame?: (reply: Answer) => StreamFrame
}

function logReading(context: RequestContext, { unknown, unused }: ReadFields): void {
  context.set('logFields', {
    ...(unknown.length === 0 ? {} : { unknownFields: unknown.map(escapeUnprinted) }),
    ...(unused.length === 0 ? {} : { ignoredFields: unused }),
  })
}

/** One route: its body parsed, its model and adapters resolved, its reply run. */
function completionRoute<Parsed extends ParsedRequest<SamplingFields>, Answer extends Reply>(
  services: Services,
  { path, summary, idPrefix, parse, reply, frame }: CompletionRoute<Parsed, Answer>,
): Route {
  /** Model and adapters, and what is judged. */
  async function resolve(
    context: RequestContext,
    { requests, fields }: ParsedRequest<SamplingFields>,
  ) {
    const { observer } = services
    const ask = parseSafety(fields)
    const floor = floorFor(context, services)
    try {
      for (const request of requests) refuseBegunAnswer(request, floor)
      const plan = decideSafety(ask, floor.safety, requireModel(services).guard)
      if (ask.escalation !== null) {
        await requireAdapters(services, [ask.escalation.id], 'safety.adapter')
      }
      return { ...(await resolveTarget(context, services, fields)), plan, ask }
    } catch (error) {
      if (error instanceof ServerError && error.code === 'policy_floor') {
        observer.floorRefused(error.param?.startsWith('safety') ? 'safety' : 'begun_answer')
      }
      throw error
    }
  }

  async function handle(context: RequestContext): Promise<Response> {
    // Under overload most requests end here: before their bodies cost anything.
    services.admission.requireRoom(clientOf(context, services.config))
    const body = await readJson(context, services)
    const parsed = parse(body, requireModel(services))
    const { fields, requests, read } = parsed
    logReading(context, read)
    const { selection, modelName, plan, ask } = await resolve(context, parsed).catch(
      (error: unknown) => {
        throw spelledOut(error, read)
      },
    )
    const n = (fields.n ?? 1) * requests.length
    const head = {
      id: replyId(idPrefix),
      created: services.clock.unixSeconds(),
      model: modelName,
      n,
      safety: createSafetyCount(plan, n),
      stream: {
        includeUsage: fields.stream_options?.include_usage ?? false,
        continuousUsage: fields.stream_options?.continuous_usage_stats ?? false,
        includeSafety: fields.stream_options?.include_safety ?? false,
      },
    }
    const answer = reply(parsed, {
      ...head,
      choicesPerPrompt: fields.n ?? 1,
      wantsModeration: ask.moderationModel !== null,
    })
    const job = {
      id: head.id,
      requests: requests.map((request) => ({ ...request, ...selection, safety: plan })),
      stream: fields.stream ?? false,
      reply: answer,
      ...(frame === undefined ? {} : { frame: frame(answer) }),
      headers: read.unused.length === 0 ? {} : { [unusedHeader]: read.unused.join(', ') },
    }
    return runGeneration(context, services, job).catch((error: unknown) => {
      throw spelledOut(error, read)
    })
  }

  return { method: 'POST', path, summary, handle }
}
