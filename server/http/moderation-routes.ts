// POST /v1/moderations, and the guardrail that LiteLLM's gateway asks: texts that are judged and not
// answered. They go the way of every generation, with no token to generate.

import { randomUUID } from 'node:crypto'
import type { GenerateRequest, GenerationEvent } from '../contracts/generation.ts'
import type { JsonObject } from '../contracts/json.ts'
import type { GuardInfo, SafetyPlan, Verdict } from '../contracts/safety.ts'
import { ServerError } from '../errors.ts'
import type { RequestContext, Route, Services } from './context.ts'
import { moderationResult } from './reply/moderation-field.ts'
import type { Reply } from './reply/reply.ts'
import { checkPromptSize } from './request/prompt-size.ts'
import { resolveSampling } from './request/sampling-fields.ts'
import { readJson, requireModel, resolveTarget } from './request-target.ts'
import { runGeneration } from './run-generation.ts'
import {
  type ModerationRequest,
  parseGuardrail,
  parseModeration,
} from './safety/moderation-request.ts'
import { checkModel } from './safety/safety-plan.ts'

type JudgeText = Omit<GenerateRequest, 'id' | 'turn' | 'adapters' | 'required'>

/** Throws guard_unavailable: a text that was not judged is never called safe. */
function requireScore(verdict: Verdict | undefined): Verdict & { readonly score: number } {
  const score = verdict?.score ?? null
  if (verdict !== undefined && score !== null) return { ...verdict, score }
  throw new ServerError(
    'guard_unavailable',
    'the guard gave no score (--guard); send the request again',
  )
}

/** Gathers one verdict for each text. */
function verdictReply(
  body: (verdicts: ReadonlyArray<Verdict & { score: number }>) => object,
  n: number,
): Reply {
  const verdicts = new Map<number, Verdict>()
  return {
    chunks: () => [],
    collect(event: GenerationEvent) {
      if (event.kind === 'verdict') verdicts.set(event.index, event)
    },
    body: () => body(Array.from({ length: n }, (_, index) => requireScore(verdicts.get(index)))),
  }
}

function moderationBody(guard: GuardInfo, id: string) {
  return (verdicts: ReadonlyArray<Verdict & { score: number }>) => ({
    id,
    model: guard.id,
    results: verdicts.map(({ score, flagged, categories = [] }) =>
      moderationResult({ score, flagged, categories }),
    ),
  })
}

function guardrailBody(verdicts: ReadonlyArray<Verdict & { score: number }>) {
  const flagged = verdicts.find((verdict) => verdict.flagged)
  if (flagged === undefined) return { action: 'NONE', blocked_reason: null, texts: null }
  const found = flagged.categories?.length ? ` (${flagged.categories.join(', ')})` : ''
  const reason = `flagged as unsafe with a score of ${flagged.score.toFixed(3)}${found}`
  return { action: 'BLOCKED', blocked_reason: reason, texts: null }
}

export function moderationRoutes(services: Services): readonly Route[] {
  const { config } = services

  function requireGuard(): GuardInfo {
    const { guard } = requireModel(services)
    if (guard !== null) return guard
    throw new ServerError(
      'unsupported_endpoint',
      'this server has no guard that could judge a text (--guard)',
    )
  }

  function plan(): SafetyPlan {
    return {
      input: 'observe',
      reply: 'off',
      every: config.judgeEvery,
      threshold: config.safetyThreshold,
      escalation: null,
      failure: config.guardFailure,
    }
  }

  function judgeText(prompt: ModerationRequest['chats'][number], param: string): JudgeText {
    const model = requireModel(services)
    const chat = { kind: 'messages', ...prompt } as const
    checkPromptSize(chat, param, model)
    return {
      prompt: chat,
      sampling: resolveSampling({ model: '', seed: 0 }, model),
      n: 1,
      maxTokens: 0,
      echo: false,
      promptLogprobs: null,
      topLogprobs: null,
      truncatePrompt: null,
      logprobTokens: [],
      returnTokenIds: false,
      splitReasoning: true,
      constraint: null,
      safety: plan(),
    }
  }

  function route(
    path: string,
    summary: string,
    parse: (body: JsonObject) => ModerationRequest,
    bodyOf: (guard: GuardInfo, id: string) => Parameters<typeof verdictReply>[0],
  ): Route {
    async function handle(context: RequestContext): Promise<Response> {
      const body = await readJson(context, services)
      const guard = requireGuard()
      const { chats, model, param, unknown } = parse(body)
      if (unknown.length > 0) context.set('logFields', { unknownFields: unknown })
      checkModel(model, 'model', guard)
      const id = `modr-${randomUUID().replaceAll('-', '')}`
      const makeBody = bodyOf(guard, id)
      if (chats.length === 0) return Response.json(makeBody([]))
      const requests = chats.map((chat) => judgeText(chat, param))
      const { selection } = await resolveTarget(context, services, { model: '' })
      return runGeneration(context, services, {
        id,
        requests: requests.map((request) => ({ ...request, ...selection })),
        stream: false,
        reply: verdictReply(makeBody, chats.length),
        headers: {},
      })
    }

    return { method: 'POST', path, summary, handle }
  }

  return [
    route('/v1/moderations', 'Judge texts without answering them', parseModeration, moderationBody),
    route(
      '/beta/litellm_basic_guardrail_api',
      "Judge texts for LiteLLM's generic guardrail",
      parseGuardrail,
      () => guardrailBody,
    ),
  ]
}
