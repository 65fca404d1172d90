// POST /tokenize and POST /detokenize, in vLLM's shapes.

import { z } from 'zod'
import type { ModelInfo, TokenizeInput, TokenizeResult } from '../contracts/engine.ts'
import type { Turn } from '../contracts/generation.ts'
import type { JsonObject } from '../contracts/json.ts'
import { escapeUnprinted } from '../contracts/printable.ts'
import { ServerError } from '../errors.ts'
import type { RequestContext, Route, Services } from './context.ts'
import { parseMessagesBody } from './dialects/messages-request.ts'
import { planTools } from './dialects/tool-plan.ts'
import { parseTokens } from './request/completion-request.ts'
import { readFields, spelledOut } from './request/field-rules.ts'
import type { RouteKind } from './request/field-verdict.ts'
import { parseMessages } from './request/messages.ts'
import { parseFields } from './request/parsed-request.ts'
import { checkPromptSize } from './request/prompt-size.ts'
import { resolveChatText, thinkingFields } from './request/thinking.ts'
import { clientOf, readJson, requireModel, resolveTarget } from './request-target.ts'

const tokenizeSchema = z.object({
  model: z.string().max(1024).nullish(),
  prompt: z.string().nullish(),
  messages: z.unknown().optional(),
  add_special_tokens: z.boolean().nullish(),
  ...thinkingFields,
  tools: z.unknown().optional(),
  tool_choice: z.unknown().optional(),
  return_token_strs: z.boolean().nullish(),
})

const detokenizeSchema = z.object({
  model: z.string().max(1024).nullish(),
  tokens: z.unknown().optional(),
})

type TokenizeFields = z.infer<typeof tokenizeSchema>

function requireOneInput({ prompt, messages }: TokenizeFields): void {
  if ((prompt == null) !== (messages == null)) return
  throw new ServerError('invalid_value', 'send either prompt or messages', { param: 'prompt' })
}

/** By the table of completions; fields that only this route knows are no unknown ones. */
function checkFields(
  context: RequestContext,
  body: JsonObject,
  route: RouteKind,
  { shape }: { readonly shape: object },
): JsonObject {
  const { body: read, unknown } = readFields(body, route)
  const unknownFields = unknown.filter((field) => !Object.hasOwn(shape, field)).map(escapeUnprinted)
  if (unknownFields.length > 0) context.set('logFields', { unknownFields })
  return read
}

function tokenizeInput(fields: TokenizeFields, model: ModelInfo): TokenizeInput {
  const withTokenStrings = fields.return_token_strs ?? false
  if (fields.prompt != null) {
    return {
      kind: 'text',
      text: fields.prompt.toWellFormed(),
      addSpecialTokens: fields.add_special_tokens ?? true,
      withTokenStrings,
    }
  }
  const messages = parseMessages(fields.messages)
  const { shown } = planTools(fields, model)
  return {
    kind: 'messages',
    ...resolveChatText(fields, messages, fields.messages),
    ...(shown.length === 0 ? {} : { tools: shown }),
    withTokenStrings,
  }
}

/** Its lists are JSON already, and may be long. */
function answer(
  { count, tokens, tokenStrings }: TokenizeResult,
  { withTokenStrings }: TokenizeInput,
  { maxContext }: ModelInfo,
): Response {
  const strings = withTokenStrings ? tokenStrings : 'null'
  return new Response(
    `{"count":${count},"max_model_len":${maxContext},"tokens":${tokens},"token_strs":${strings}}`,
    { headers: { 'content-type': 'application/json' } },
  )
}

export function tokenizeRoutes(services: Services): readonly Route[] {
  const { engine, config } = services

  /** A client's texts take turns with its own prompts, and nobody else's count against it. */
  function turnOf(context: RequestContext): Turn {
    return { client: clientOf(context, config), request: 'text' }
  }

  return [
    {
      method: 'POST',
      path: '/tokenize',
      summary: 'The tokens of a text or of a chat after its template',
      async handle(context) {
        const body = await readJson(context, services)
        const model = requireModel(services)
        const fields = parseFields(tokenizeSchema, body)
        requireOneInput(fields)
        const route = fields.messages == null ? 'completions' : 'chat'
        const read = checkFields(context, body, route, tokenizeSchema)
        await resolveTarget(context, services, { ...read, model: fields.model ?? '' })
        const input = tokenizeInput(fields, model)
        checkPromptSize(input, input.kind === 'text' ? 'prompt' : 'messages', model)
        return answer(await engine.tokenize(input, turnOf(context)), input, model)
      },
    },
    {
      method: 'POST',
      path: '/v1/messages/count_tokens',
      summary: 'How many tokens the prompt of a message has',
      async handle(context) {
        const body = await readJson(context, services)
        const model = requireModel(services)
        const { requests, fields, read } = parseMessagesBody(body, model)
        try {
          await resolveTarget(context, services, fields)
          const { prompt } = requests[0]!
          if (prompt.kind !== 'messages') throw new Error('a message is a chat')
          const addGenerationPrompt = !prompt.continuesLast
          const input = { ...prompt, addGenerationPrompt, withTokenStrings: false }
          const { count } = await engine.tokenize(input, turnOf(context))
          return Response.json({ input_tokens: count })
        } catch (error) {
          throw spelledOut(error, read)
        }
      },
    },
    {
      method: 'POST',
      path: '/detokenize',
      summary: 'The text of a list of tokens',
      async handle(context) {
        const body = await readJson(context, services)
        const model = requireModel(services)
        const fields = parseFields(detokenizeSchema, body)
        const read = checkFields(context, body, 'completions', detokenizeSchema)
        await resolveTarget(context, services, { ...read, model: fields.model ?? '' })
        const isEmpty = Array.isArray(fields.tokens) && fields.tokens.length === 0
        const ids = isEmpty ? [] : parseTokens(fields.tokens, 'tokens', model)
        return Response.json({
          prompt: ids.length === 0 ? '' : await engine.detokenize(ids, turnOf(context)),
        })
      },
    },
  ]
}
