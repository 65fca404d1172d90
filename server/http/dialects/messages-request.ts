// The body of POST /v1/messages as that of a chat: its own fields are translated, every other one is read as
// on /v1/chat/completions. So whatever holds for a chat holds here. A last message of the assistant is
// continued, as Anthropic's prefill is.

import { z } from 'zod'
import type { ModelInfo } from '../../contracts/engine.ts'
import { isObject, type JsonObject } from '../../contracts/json.ts'
import type { ChatFields } from '../request/chat-request.ts'
import { rejectOthers, wrong } from '../request/field-error.ts'
import { type InnerSpellings, spelledPlace } from '../request/field-rules.ts'
import { type ParsedRequest, parseFields } from '../request/parsed-request.ts'
import { quote } from '../request/quote.ts'
import { chatFromMessages } from './message-blocks.ts'
import { parseSpelledChat, type ToolChat } from './tool-chat.ts'

/** Its own fields; those of a chat are chatSchema's. */
export const messagesSchema = z.looseObject({
  system: z.unknown().optional(),
  messages: z.unknown().optional(),
  thinking: z
    .looseObject({
      type: z.enum(['enabled', 'disabled', 'adaptive']),
      budget_tokens: z.int().min(0).nullish(),
      display: z.enum(['summarized', 'omitted', 'full']).nullish(),
    })
    .nullish(),
  tools: z.array(z.looseObject({ name: z.string(), type: z.string().nullish() })).nullish(),
  tool_choice: z
    .looseObject({
      type: z.enum(['auto', 'any', 'tool', 'none']),
      name: z.string().nullish(),
      disable_parallel_tool_use: z.boolean().nullish(),
    })
    .nullish(),
  output_config: z
    .looseObject({ effort: z.string().nullish(), format: z.looseObject({}).nullish() })
    .nullish(),
  output_format: z.looseObject({}).nullish(),
})

type MessagesFields = z.infer<typeof messagesSchema>

export interface MessagesRequest extends ParsedRequest<ChatFields> {
  readonly chat: ToolChat
  /** Thoughts are told to those who ask for them. */
  readonly showsThought: boolean
}

const own = new Set(Object.keys(messagesSchema.shape))

/** What of a field is read. */
const parts: Readonly<Record<string, readonly string[]>> = {
  thinking: ['type', 'budget_tokens', 'display'],
  tool_choice: ['type', 'name', 'disable_parallel_tool_use'],
  output_config: ['effort', 'format'],
}

const spellings = {
  response_format: 'output_config.format',
  reasoning_effort: 'output_config.effort',
} as const

const inner: InnerSpellings = [
  [/^(messages\..*)\.tool_call_id$/, '$1.tool_use_id'],
  [/^(tools\.\d+)\.function\.parameters\b/, '$1.input_schema'],
  [/^(tools\.\d+)\.function\b/, '$1'],
  [/^tool_choice\.function\b/, 'tool_choice'],
  [/^output_config\.format\.json_schema\b/, 'output_config.format'],
]

/** Field → what to do instead. */
const refused: Readonly<Record<string, string>> = {
  container: 'no code is run here',
  mcp_servers: 'this server calls no tools; give them as tools and answer their calls',
  context_management: 'no prompt is cut here; shorten it',
  n: 'a message is one; send several requests',
  logprobs: 'POST /v1/chat/completions has it',
  top_logprobs: 'POST /v1/chat/completions has it',
  prompt_logprobs: 'POST /v1/chat/completions has it',
  return_token_ids: 'POST /v1/chat/completions has it',
  response_format: 'send output_config.format',
}

function refuse(body: JsonObject): void {
  for (const [field, remedy] of Object.entries(refused)) {
    const value = body[field]
    const isEmpty = value == null || (Array.isArray(value) && value.length === 0)
    if (isEmpty || value === false || (field === 'n' && value === 1)) continue
    throw wrong(
      field,
      `is not supported by this route; got ${quote(value)}; leave it out: ${remedy}`,
      'unsupported_parameter',
    )
  }
}

export function parseMessagesBody(body: JsonObject, model: ModelInfo): MessagesRequest {
  refuse(body)
  const fields = parseFields(messagesSchema, body)
  for (const [field, known] of Object.entries(parts)) rejectOthers(field, body[field], known)
  const { messages, places } = chatFromMessages(fields.system, fields.messages)
  const spelled = new Map<string, string>(Object.entries(spellings))
  for (const [i, place] of places.entries()) spelled.set(`messages.${i}`, place)
  const rest = Object.fromEntries(Object.entries(body).filter(([field]) => !own.has(field)))
  const chatBody = {
    ...rest,
    messages,
    ...(continues(messages) ? { continue_final_message: true } : {}),
    ...thinkingOf(fields),
    ...toolsOf(fields),
    ...formatOf(fields),
  }
  const chat = parseSpelledChat(chatBody, model, { spellings: spelled, inner })
  const spelling = { spellings: new Map([...chat.read.spellings, ...spelled]), inner }
  const hasBudget = fields.thinking?.budget_tokens != null
  const { type, display } = fields.thinking ?? {}
  return {
    fields: chat.fields,
    requests: chat.requests,
    read: {
      ...chat.read,
      unused: [
        ...(hasBudget ? ['thinking.budget_tokens'] : []),
        ...chat.read.unused.map((place) => spelledPlace(place, spelling)),
      ],
      ...spelling,
    },
    chat,
    showsThought: (type === 'enabled' || type === 'adaptive') && display !== 'omitted',
  }
}

function continues(messages: readonly JsonObject[]): boolean {
  const last = messages.at(-1)
  return last?.role === 'assistant' && last.tool_calls === undefined
}

function thinkingOf({ thinking, output_config: config }: MessagesFields): JsonObject {
  const effort = config?.effort
  return {
    ...(thinking == null ? {} : { thinking: { type: thinking.type } }),
    ...(effort == null ? {} : { reasoning_effort: effort }),
  }
}

/** Functions in the shape of a chat's; a tool that a server would run keeps its type. */
function toolsOf({ tools, tool_choice: choice }: MessagesFields): JsonObject {
  const given = (tools ?? []).map(
    ({ type, name, description, input_schema: parameters, strict }) =>
      type == null || type === 'custom'
        ? { type: 'function', function: { name, description, parameters, strict } }
        : { type },
  )
  return {
    ...(given.length === 0 ? {} : { tools: given }),
    ...(choice == null ? {} : { tool_choice: choiceOf(choice) }),
    ...(choice?.disable_parallel_tool_use ? { parallel_tool_calls: false } : {}),
  }
}

function choiceOf({ type, name }: NonNullable<MessagesFields['tool_choice']>): unknown {
  if (type === 'any') return 'required'
  return type === 'tool' ? { type: 'function', function: { name } } : type
}

function formatOf({ output_config: config, output_format: older }: MessagesFields): JsonObject {
  if (config?.format != null && older != null) {
    throw wrong('output_format', 'and output_config.format say the same; send one of them')
  }
  const format = config?.format ?? older
  if (!isObject(format)) return {}
  if (format.type !== 'json_schema') return { response_format: format }
  rejectOthers('output_config.format', format, ['type', 'schema'])
  const { schema } = format
  return {
    response_format: { type: 'json_schema', json_schema: { name: 'answer', schema, strict: true } },
  }
}
