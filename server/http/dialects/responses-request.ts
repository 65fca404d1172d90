// The body of POST /v1/responses as that of a chat: its own fields are translated, every other one is read
// as on /v1/chat/completions. So whatever holds for a chat holds here.

import { z } from 'zod'
import type { ModelInfo } from '../../contracts/engine.ts'
import { isObject, type JsonObject } from '../../contracts/json.ts'
import type { ChatFields } from '../request/chat-request.ts'
import { rejectOthers, wrong } from '../request/field-error.ts'
import { type InnerSpellings, spelledPlace } from '../request/field-rules.ts'
import type { ParsedRequest } from '../request/parsed-request.ts'
import { parseFields } from '../request/parsed-request.ts'
import { quote } from '../request/quote.ts'
import { chatFromItems } from './input-items.ts'
import { parseSpelledChat, type ToolChat } from './tool-chat.ts'

/** Its own fields; those of a chat are chatSchema's. */
export const responsesSchema = z.looseObject({
  input: z.unknown().optional(),
  instructions: z.string().nullish(),
  text: z.looseObject({ format: z.looseObject({ type: z.string() }).nullish() }).nullish(),
  reasoning: z
    .looseObject({
      summary: z.enum(['auto', 'concise', 'detailed', 'none']).nullish(),
      generate_summary: z.enum(['auto', 'concise', 'detailed']).nullish(),
    })
    .nullish(),
  tools: z.array(z.looseObject({ type: z.string() })).nullish(),
  tool_choice: z.unknown().optional(),
  include: z.array(z.string()).nullish(),
  store: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  metadata: z.record(z.string(), z.unknown()).nullish(),
})

type ResponsesFields = z.infer<typeof responsesSchema>

/** What of the request stands in its answer. */
export interface EchoedFields {
  readonly request: JsonObject
  readonly wantsSummary: boolean
}

export interface ResponsesRequest extends ParsedRequest<ChatFields> {
  readonly chat: ToolChat
  readonly echoed: EchoedFields
}

/** What can be included. */
const logprobsOfText = 'message.output_text.logprobs'
const stateless = 'nothing is kept here between requests; send the whole input'
/** Field → values that change nothing, and what to do instead. */
const refused: Readonly<Record<string, readonly [unless: readonly unknown[], remedy: string]>> = {
  previous_response_id: [[], stateless],
  conversation: [[], stateless],
  prompt: [[], 'templates are not kept here; send input and instructions'],
  background: [[false], 'a response is made while its client waits'],
  truncation: [['disabled'], 'no input is cut by its items; truncate_prompt_tokens cuts by tokens'],
  context_management: [[], 'no input is cut here; shorten it'],
  messages: [[], 'send input'],
  n: [[1], 'a response is one; send several requests'],
  logprobs: [[], 'send top_logprobs, or include message.output_text.logprobs'],
  prompt_logprobs: [[], 'POST /v1/chat/completions has it'],
  return_token_ids: [[false], 'POST /v1/chat/completions has it'],
  response_format: [[], 'send text.format'],
  continue_final_message: [[false], 'POST /v1/chat/completions has it'],
}

/** Fields that are translated; the others go on as they are. */
const own = new Set(['input', 'instructions', 'text', 'reasoning', 'include', 'store', 'metadata'])

const spellings = {
  messages: 'input',
  response_format: 'text.format',
  verbosity: 'text.verbosity',
} as const

const inner: InnerSpellings = [
  [/^(input\.\d+)\.tool_call_id$/, '$1.call_id'],
  [/^(input\.\d+)\.tool_calls\.0\.function\.(name|arguments)$/, '$1.$2'],
  [/^(input\.\d+)\.tool_calls\.0\.id$/, '$1.call_id'],
  [/^(tools\.\d+)\.function\b/, '$1'],
  [/^tool_choice\.(function|allowed_tools)\b/, 'tool_choice'],
  [/^(tool_choice\.tools\.\d+)\.function\b/, '$1'],
  [/^text\.format\.json_schema\b/, 'text.format'],
]

export function parseResponses(body: JsonObject, model: ModelInfo): ResponsesRequest {
  refuse(body)
  const fields = parseFields(responsesSchema, body)
  rejectOthers('text', fields.text, ['format', 'verbosity'])
  const { messages, places } = chatOf(fields)
  const spelled = new Map<string, string>(Object.entries(spellings))
  for (const [i, place] of places.entries()) spelled.set(`messages.${i}`, place)
  const chatFields = { ...chatBody(body, fields), messages, ...toolsOf(fields) }
  const chat = parseSpelledChat(chatFields, model, { spellings: spelled, inner })
  const spelling = { spellings: new Map([...chat.read.spellings, ...spelled]), inner }
  const unused = [
    ...(fields.store === true ? ['store'] : []),
    ...(fields.include?.some((name) => name !== logprobsOfText) ? ['include'] : []),
    ...chat.read.unused.map((place) => spelledPlace(place, spelling)),
  ]
  const { summary, generate_summary: older } = fields.reasoning ?? {}
  return {
    fields: chat.fields,
    requests: chat.requests,
    read: { ...chat.read, unused, ...spelling },
    chat,
    echoed: { request: body, wantsSummary: (summary ?? older ?? 'none') !== 'none' },
  }
}

function refuse(body: JsonObject): void {
  for (const [field, [unless, remedy]] of Object.entries(refused)) {
    const value = body[field]
    if (value == null || unless.includes(value)) continue
    throw wrong(
      field,
      `is not supported by this route; got ${quote(value)}; leave it out: ${remedy}`,
      'unsupported_parameter',
    )
  }
}

/** Instructions come first, as a system message. */
function chatOf({ input, instructions }: ResponsesFields) {
  const { messages, places } = chatFromItems(input)
  if (!instructions) return { messages, places }
  return {
    messages: [{ role: 'system', content: instructions }, ...messages],
    places: ['instructions', ...places],
  }
}

function chatBody(body: JsonObject, fields: ResponsesFields): JsonObject {
  const rest = Object.fromEntries(Object.entries(body).filter(([field]) => !own.has(field)))
  const { generate_summary: _, ...reasoning } = fields.reasoning ?? {}
  const wantsLogprobs = (fields.top_logprobs ?? 0) > 0 || fields.include?.includes(logprobsOfText)
  return {
    ...rest,
    ...formatOf(fields),
    reasoning,
    ...(wantsLogprobs ? { logprobs: true } : {}),
    ...(fields.top_logprobs === 0 ? { top_logprobs: null } : {}),
  }
}

/** `text.format` in the shape of response_format. */
function formatOf({ text }: ResponsesFields): JsonObject {
  const { format, verbosity } = text ?? {}
  const said = verbosity == null ? {} : { verbosity }
  if (format == null) return said
  if (format.type !== 'json_schema') return { ...said, response_format: format }
  const { type, ...schema } = format
  return { ...said, response_format: { type, json_schema: schema } }
}

/** Functions in the shape of a chat's; a tool that a server would run keeps its type. */
function toolsOf({ tools, tool_choice: choice }: ResponsesFields): JsonObject {
  const functions = (tools ?? []).map(({ type, name, description, parameters, strict }) =>
    type === 'function' ? { type, function: { name, description, parameters, strict } } : { type },
  )
  return {
    ...(functions.length === 0 ? {} : { tools: functions }),
    ...(choice == null ? {} : { tool_choice: choiceOf(choice) }),
  }
}

function choiceOf(choice: unknown): unknown {
  if (!isObject(choice)) return choice
  if (choice.type === 'function') return { type: 'function', function: { name: choice.name } }
  if (choice.type !== 'allowed_tools' || !Array.isArray(choice.tools)) return choice
  const tools = choice.tools.map((tool: unknown) =>
    isObject(tool) ? { type: tool.type, function: { name: tool.name } } : tool,
  )
  return { type: 'allowed_tools', allowed_tools: { mode: choice.mode, tools } }
}
