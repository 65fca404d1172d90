// POST /tokenize and POST /detokenize, in vLLM's shapes.

import { z } from 'zod'
import type { ModelInfo, TokenizeInput, TokenizeResult } from '../contracts/engine.ts'
import { ServerError } from '../errors.ts'
import type { Route, Services } from './context.ts'
import { readJsonObject } from './request/body.ts'
import { parseTokens } from './request/completion-request.ts'
import { rejectUnsupported } from './request/field-rules.ts'
import { parseMessages } from './request/messages.ts'
import { parseFields } from './request/parsed-request.ts'
import { checkPromptSize } from './request/prompt-size.ts'
import { requireModel, resolveTarget } from './request-target.ts'

const tokenizeSchema = z.object({
  model: z.string().max(1024).nullish(),
  prompt: z.string().nullish(),
  messages: z.unknown().optional(),
  add_special_tokens: z.boolean().nullish(),
  add_generation_prompt: z.boolean().nullish(),
  return_token_strs: z.boolean().nullish(),
})

const detokenizeSchema = z.object({
  model: z.string().max(1024).nullish(),
  tokens: z.unknown().optional(),
})

type TokenizeFields = z.infer<typeof tokenizeSchema>

function tokenizeInput(fields: TokenizeFields): TokenizeInput {
  const withTokenStrings = fields.return_token_strs ?? false
  if ((fields.prompt == null) === (fields.messages == null)) {
    throw new ServerError('invalid_value', 'send either prompt or messages', { param: 'prompt' })
  }
  if (fields.prompt != null) {
    return {
      kind: 'text',
      text: fields.prompt.toWellFormed(),
      addSpecialTokens: fields.add_special_tokens ?? true,
      withTokenStrings,
    }
  }
  return {
    kind: 'messages',
    messages: parseMessages(fields.messages),
    addGenerationPrompt: fields.add_generation_prompt ?? true,
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
  return [
    {
      method: 'POST',
      path: '/tokenize',
      summary: 'The tokens of a text or of a chat after its template',
      async handle(context) {
        const body = await readJsonObject(context.req.raw, config.maxBody)
        const model = requireModel(services)
        // Here, unlike in a chat, the template's ending is the caller's choice.
        const { add_generation_prompt: _choice, ...others } = body
        rejectUnsupported(others)
        const fields = parseFields(tokenizeSchema, body)
        await resolveTarget(context, services, { model: fields.model ?? '' })
        const input = tokenizeInput(fields)
        checkPromptSize(input, input.kind === 'text' ? 'prompt' : 'messages', model)
        return answer(await engine.tokenize(input), input, model)
      },
    },
    {
      method: 'POST',
      path: '/detokenize',
      summary: 'The text of a list of tokens',
      async handle(context) {
        const body = await readJsonObject(context.req.raw, config.maxBody)
        const model = requireModel(services)
        const fields = parseFields(detokenizeSchema, body)
        await resolveTarget(context, services, { model: fields.model ?? '' })
        const isEmpty = Array.isArray(fields.tokens) && fields.tokens.length === 0
        const ids = isEmpty ? [] : parseTokens(fields.tokens, 'tokens', model)
        return Response.json({ prompt: ids.length === 0 ? '' : await engine.detokenize(ids) })
      },
    },
  ]
}
