// The bodies of POST /v1/moderations and of LiteLLM's guardrail, parsed into the chats to be judged: a
// text of a user, one of the assistant, or a conversation.

import { z } from 'zod'
import type { ChatInput } from '../../contracts/generation.ts'
import { isObject, type JsonObject } from '../../contracts/json.ts'
import { escapeUnprinted } from '../../contracts/printable.ts'
import { wrong } from '../request/field-error.ts'
import { parseMessages } from '../request/messages.ts'
import { parseFields } from '../request/parsed-request.ts'
import { quote } from '../request/quote.ts'

/** Texts of one request; each is a prompt for the engine. */
export const maxModeratedTexts = 64

export const moderationSchema = z.object({
  input: z.unknown().optional(),
  model: z.string().max(256).nullish(),
})

/** What of it is read; images and tools say nothing that could be judged. */
export const guardrailSchema = z.object({
  texts: z.array(z.string()).max(maxModeratedTexts),
  input_type: z.enum(['request', 'response']).nullish(),
  images: z.array(z.unknown()).nullish(),
})

/** One text of content parts, which belong together. */
function parsePart(part: unknown, param: string): string {
  if (!isObject(part))
    throw wrong(param, `must be a content part; got ${quote(part)}`, 'invalid_value')
  if (part.type !== 'text') {
    const message = `must be "text": nothing else is judged here; got ${quote(part.type)}`
    throw wrong(`${param}.type`, message, 'unsupported_content')
  }
  if (typeof part.text === 'string') return part.text
  throw wrong(`${param}.text`, `must be a string; got ${quote(part.text)}`, 'invalid_value')
}

/** A conversation; its last message is what is judged. */
function conversation(input: readonly unknown[]): ChatInput {
  const messages = parseMessages(input, 'input')
  return { messages, continuesLast: messages.at(-1)?.role === 'assistant' }
}

/** Strings are judged one by one, parts as one text, messages as one conversation. */
function parseInput(input: unknown): readonly ChatInput[] {
  if (Array.isArray(input) && isObject(input[0]) && 'role' in input[0]) {
    requireFew(input)
    return [conversation(input)]
  }
  return parseTexts(input).map(userText)
}

function requireFew({ length }: readonly unknown[]): void {
  if (length <= maxModeratedTexts) return
  const message = `may hold ${maxModeratedTexts} entries; got ${length}; send several requests`
  throw wrong('input', message, 'invalid_value')
}

function parseTexts(input: unknown): readonly string[] {
  if (typeof input === 'string') return [input]
  if (!Array.isArray(input) || input.length === 0) {
    const message = `must be a string, a list of strings or of text parts; got ${quote(input)}`
    throw wrong('input', message, 'invalid_value')
  }
  requireFew(input)
  if (typeof input[0] !== 'string') {
    return [input.map((part, i) => parsePart(part, `input.${i}`)).join('\n')]
  }
  return input.map((text, i) => {
    if (typeof text === 'string') return text
    throw wrong(`input.${i}`, `must be a string; got ${quote(text)}`, 'invalid_value')
  })
}

function userText(text: string): ChatInput {
  return { messages: [{ role: 'user', content: text.toWellFormed() }] }
}

/** Its user is unknown. */
function assistantText(text: string): ChatInput {
  const reply = { role: 'assistant', content: text.toWellFormed() } as const
  return { messages: [{ role: 'user', content: '' }, reply], continuesLast: true }
}

export interface ModerationRequest {
  readonly chats: readonly ChatInput[]
  /** As the request named it. */
  readonly model: string | null
  /** Where the texts stand. */
  readonly param: string
  /** Names for the log. */
  readonly unknown: readonly string[]
}

function unknownOf(body: JsonObject, schema: z.ZodObject): readonly string[] {
  return Object.keys(body)
    .filter((field) => !Object.hasOwn(schema.shape, field))
    .slice(0, 16)
    .map((field) => escapeUnprinted(field.slice(0, 64)))
}

export function parseModeration(body: JsonObject): ModerationRequest {
  const { input, model } = parseFields(moderationSchema, body)
  return {
    chats: parseInput(input),
    model: model ?? null,
    param: 'input',
    unknown: unknownOf(body, moderationSchema),
  }
}

export function parseGuardrail(body: JsonObject): ModerationRequest {
  const { texts, input_type: kind, images } = parseFields(guardrailSchema, body)
  if (images != null && images.length > 0) {
    throw wrong('images', 'must be empty: only text is judged here', 'unsupported_content')
  }
  return {
    chats: texts.map(kind === 'response' ? assistantText : userText),
    model: null,
    param: 'texts',
    unknown: [],
  }
}
