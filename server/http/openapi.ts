// The OpenAPI document, derived: paths from the route table, bodies from the zod schemas that parse
// them. Fields parsed by hand (messages, prompt, adapters) are described here.

import { z } from 'zod'
import {
  adapterSummarySchema,
  maxAdapterScale,
  maxAdaptersPerRequest,
} from '../contracts/adapter.ts'
import { manifestSchema } from '../contracts/manifest.ts'
import { openPaths } from './access/auth.ts'
import { changeBodies } from './adapters/change-fields.ts'
import type { Route } from './context.ts'
import { messagesSchema } from './dialects/messages-request.ts'
import { responsesSchema } from './dialects/responses-request.ts'
import { chatSchema } from './request/chat-request.ts'
import { completionSchema } from './request/completion-request.ts'
import { maxMessages, messageRoles } from './request/messages.ts'
import { maxChoices } from './request/sampling-fields.ts'
import {
  guardrailSchema,
  maxModeratedTexts,
  moderationSchema,
} from './safety/moderation-request.ts'
import { safetySchema } from './safety/safety-fields.ts'

const adapterShape = {
  description: `A name, {id|name, scale}, or a list of up to ${maxAdaptersPerRequest}; "none" is the base model`,
  oneOf: [
    { type: 'string' },
    {
      type: 'object',
      properties: {
        id: { type: 'string' },
        name: { type: 'string' },
        scale: { type: 'number', minimum: 0, maximum: maxAdapterScale },
        from: { description: 'Where it begins to act', enum: ['start', 'answer'] },
        until: { description: 'Where it ends', const: 'answer' },
      },
    },
    { type: 'array', maxItems: maxAdaptersPerRequest },
  ],
}

const message = {
  type: 'object',
  required: ['role'],
  properties: {
    role: { enum: messageRoles },
    reasoning: { type: ['string', 'null'] },
    reasoning_content: { type: ['string', 'null'] },
    prefix: {
      description: 'Of the last message, an assistant’s: the reply continues it',
      type: ['boolean', 'null'],
    },
    content: {
      description: 'Only an assistant’s may be null or absent',
      oneOf: [
        { type: 'null' },
        { type: 'string' },
        {
          type: 'array',
          items: {
            type: 'object',
            required: ['type', 'text'],
            properties: { type: { const: 'text' }, text: { type: 'string' } },
          },
        },
      ],
    },
  },
}

const handParsed: Readonly<Record<string, object>> = {
  adapter: adapterShape,
  adapter_id: adapterShape,
  lora: adapterShape,
  messages: { type: 'array', minItems: 1, maxItems: maxMessages, items: message },
  prompt: {
    oneOf: [
      { type: 'string' },
      { type: 'array', items: { type: 'string' } },
      { type: 'array', items: { type: 'integer' } },
      { type: 'array', items: { type: 'array', items: { type: 'integer' } } },
    ],
  },
  n: { type: 'integer', minimum: 1, maximum: maxChoices },
}

const moderated = {
  oneOf: [
    { type: 'string' },
    { type: 'array', maxItems: maxModeratedTexts, items: { type: 'string' } },
    {
      description: 'One text',
      type: 'array',
      maxItems: maxModeratedTexts,
      items: {
        type: 'object',
        required: ['type', 'text'],
        properties: { type: { const: 'text' }, text: { type: 'string' } },
      },
    },
  ],
}

function shapeOf(schema: z.ZodType) {
  const { $schema: _, ...shape } = z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'any',
    // It says that our code does not write to the value, nothing about the document.
    override: ({ jsonSchema }) => {
      delete jsonSchema.readOnly
    },
  })
  return shape
}

/** `safety` and `moderation` are parsed apart from the rest of a body. */
function safetyShapes(): Record<string, object> {
  return shapeOf(safetySchema).properties as Record<string, object>
}

function bodySchema(schema: z.ZodObject, required: readonly string[]): object {
  const { properties = {} } = shapeOf(schema)
  return { type: 'object', required, properties: { ...properties, ...pick(properties) } }
}

function pick(properties: object): Record<string, object> {
  const shapes = Object.entries({ ...handParsed, ...safetyShapes() })
  return Object.fromEntries(shapes.filter(([field]) => field in properties))
}

/** Its own fields beside those of a chat. */
function shapedBody(own: z.ZodObject, required: readonly string[]): object {
  const { messages: _, ...chat } = shapeOf(chatSchema).properties as Record<string, object>
  const properties = { ...chat, ...pick(chat), ...(shapeOf(own).properties as object) }
  return { type: 'object', required, properties }
}

const bodies: Readonly<Record<string, () => object>> = {
  '/v1/chat/completions': () => bodySchema(chatSchema, ['model', 'messages']),
  '/v1/completions': () => bodySchema(completionSchema, ['model', 'prompt']),
  '/v1/responses': () => shapedBody(responsesSchema, ['model', 'input']),
  '/v1/messages': () => shapedBody(messagesSchema, ['model', 'messages', 'max_tokens']),
  '/v1/messages/count_tokens': () => shapedBody(messagesSchema, ['model', 'messages']),
  '/v1/moderations': () => {
    const { properties } = shapeOf(moderationSchema)
    return { type: 'object', required: ['input'], properties: { ...properties, input: moderated } }
  },
  '/beta/litellm_basic_guardrail_api': () => shapeOf(guardrailSchema),
}

/** The manifest is parsed where adapter folders are read; this is the shape of what is left of it. */
function adapterSchema(): object {
  const { properties, ...summary } = shapeOf(adapterSummarySchema)
  const manifest = {
    description: 'Provenance and held-out results',
    oneOf: [shapeOf(manifestSchema), { type: 'null' }],
  }
  return { ...summary, properties: { ...properties, manifest } }
}

/** Answers whose shape clients of this server alone need to know. */
const answers: Readonly<Record<string, () => object>> = {
  '/v1/adapters': () => ({
    type: 'object',
    properties: { object: { const: 'list' }, data: { type: 'array', items: adapterSchema() } },
  }),
  '/v1/adapters/:id': adapterSchema,
}

function okResponse(path: string): object {
  const schema = answers[path]?.()
  return schema === undefined
    ? { description: 'OK' }
    : { description: 'OK', content: { 'application/json': { schema } } }
}

const errorResponse = {
  description: 'An error',
  content: {
    'application/json': {
      schema: {
        type: 'object',
        properties: {
          error: {
            type: 'object',
            properties: {
              message: { type: 'string' },
              type: { type: 'string' },
              param: { type: ['string', 'null'] },
              code: { type: 'string' },
            },
          },
        },
      },
    },
  },
}

const adapterQuery = {
  name: 'adapter',
  in: 'query',
  description: 'name[:strength], a comma list of them, or none',
  schema: { type: 'string' },
}

function contentOf(path: string, schema: object): object {
  const { json, upload } = changeBodies[path] ?? {}
  const content = { 'application/json': { schema: json ? shapeOf(json) : schema } }
  if (upload === undefined) return content
  return { ...content, 'multipart/form-data': { schema: shapeOf(upload) } }
}

function operation(route: Route): object {
  const schema = bodies[route.path]?.() ?? { type: 'object' }
  const params = [...route.path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }))
  return {
    summary: route.summary,
    parameters: route.path in bodies ? [...params, adapterQuery] : params,
    ...(route.method === 'POST'
      ? { requestBody: { required: true, content: contentOf(route.path, schema) } }
      : {}),
    ...(openPaths.has(route.path) ? { security: [] } : {}),
    responses: { 200: okResponse(route.path), default: errorResponse },
  }
}

export function openApiDocument(options: {
  readonly routes: readonly Route[]
  readonly version: string
}): object {
  const paths: Record<string, Record<string, object>> = {}
  for (const route of options.routes) {
    const path = route.path.replace(/:(\w+)/g, '{$1}')
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(route) }
  }
  return {
    openapi: '3.1.0',
    info: { title: 'dutyfree', version: options.version },
    components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } },
    security: [{ bearer: [] }],
    paths,
  }
}
