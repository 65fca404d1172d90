// Chat messages of a request: text only. Parsed one by one, so that the first wrong one ends the
// work and a body of a million wrong ones yields one error.

import type { ChatMessage, ToolCall } from '../../contracts/generation.ts'
import { isObject, type JsonObject } from '../../contracts/json.ts'
import { writeThought } from '../../contracts/thought.ts'
import { wrong } from './field-error.ts'
import { refuseMessageFields } from './message-fields.ts'
import { quote } from './quote.ts'

export const maxMessages = 10_000
const maxPartsPerMessage = 1_000
const maxCallsPerMessage = 128
const maxCallIdLength = 256

const roles: Readonly<Record<string, ChatMessage['role']>> = {
  system: 'system',
  developer: 'system',
  user: 'user',
  assistant: 'assistant',
  tool: 'tool',
}

const thoughtFields = ['reasoning_content', 'reasoning', 'thinking'] as const

export const messageRoles = Object.keys(roles)

function parsePart(part: unknown, param: string): string {
  if (typeof part === 'string') return part
  if (!isObject(part)) throw wrong(param, `must be a content part; got ${quote(part)}`)
  if (part.type !== 'text') {
    if (typeof part.type !== 'string') throw wrong(`${param}.type`, 'must be "text"')
    throw wrong(
      `${param}.type`,
      `must be "text": this model reads no other content; got ${quote(part.type)}`,
      'unsupported_content',
    )
  }
  if (typeof part.text === 'string') return part.text
  throw wrong(`${param}.text`, `must be a string; got ${quote(part.text)}`)
}

function parseContent(content: unknown, param: string): string {
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) {
    throw wrong(param, `must be a string or a list of text parts; got ${quote(content)}`)
  }
  if (content.length === 0 || content.length > maxPartsPerMessage) {
    throw wrong(param, `must hold 1–${maxPartsPerMessage} parts; got ${content.length}`)
  }
  return content.map((part, i) => parsePart(part, `${param}.${i}`)).join('')
}

function isEmpty(value: unknown) {
  return value === undefined || value === null || (Array.isArray(value) && value.length === 0)
}

/** Calls of the last answer that have no result yet. */
type OpenCalls = Map<string, ToolCall>

function parseMessage(message: unknown, param: string, open: OpenCalls): ChatMessage {
  if (!isObject(message)) throw wrong(param, `must be a message object; got ${quote(message)}`)
  const { role, content } = message
  if (role === 'function') {
    throw wrong(
      `${param}.role`,
      'is not supported: send the result with role tool and its tool_call_id',
      'unsupported_value',
    )
  }
  refuseMessageFields(message, param)
  const known = typeof role === 'string' && Object.hasOwn(roles, role) ? roles[role] : undefined
  if (known === undefined) {
    throw wrong(
      `${param}.role`,
      `must be system, developer, user, assistant or tool; got ${quote(role)}`,
    )
  }
  checkTexts(message, param)
  // An answer whose thought was cut has no content: clients send "", null or nothing back.
  const isAbsent = (known === 'assistant' || known === 'tool') && isEmpty(content)
  const text = isAbsent ? '' : parseContent(content, `${param}.content`)
  // Lone surrogates become U+FFFD, as they would on the way to UTF-8.
  const parsed = { role: known, content: text.toWellFormed() }
  if (known === 'tool') return { ...parsed, answers: answeredCall(message, param, open) }
  if (known === 'system') return parsed
  open.clear()
  const calls = parseCalls(message.tool_calls, `${param}.tool_calls`, known)
  for (const call of calls) open.set(call.id, call)
  return calls.length === 0 ? parsed : { ...parsed, toolCalls: calls }
}

/** A result belongs to a call of the answer before it, and comes once. */
function answeredCall(message: JsonObject, param: string, open: OpenCalls): ToolCall {
  const id = message.tool_call_id
  const call = typeof id === 'string' ? open.get(id) : undefined
  if (call === undefined) {
    throw wrong(
      `${param}.tool_call_id`,
      `must be the id of a call in the assistant message before it; got ${quote(id)}`,
    )
  }
  open.delete(call.id)
  return call
}

function parseCalls(value: unknown, param: string, role: ChatMessage['role']): ToolCall[] {
  if (isEmpty(value)) return []
  if (role !== 'assistant') throw wrong(param, 'may only stand in an assistant message')
  if (!Array.isArray(value) || value.length > maxCallsPerMessage) {
    throw wrong(param, `must be a list of up to ${maxCallsPerMessage} calls; got ${quote(value)}`)
  }
  const calls = value.map((call, i) => parseCall(call, `${param}.${i}`))
  if (new Set(calls.map(({ id }) => id)).size === calls.length) return calls
  throw wrong(param, 'must have an id for each call of its own')
}

function parseCall(call: unknown, param: string): ToolCall {
  if (!isObject(call) || !isObject(call.function)) {
    throw wrong(param, `must be {id, type, function: {name, arguments}}; got ${quote(call)}`)
  }
  const { id } = call
  const { name, arguments: given } = call.function
  if (typeof id !== 'string' || id === '' || id.length > maxCallIdLength) {
    throw wrong(`${param}.id`, `must be a string of 1–${maxCallIdLength} characters`)
  }
  if (typeof name !== 'string' || name === '') {
    throw wrong(`${param}.function.name`, `must be a name; got ${quote(name)}`)
  }
  const text = isObject(given) ? JSON.stringify(given) : given === '' ? '{}' : given
  if (typeof text === 'string' && isObjectText(text)) {
    return { id: id.toWellFormed(), name: name.toWellFormed(), arguments: text.toWellFormed() }
  }
  throw wrong(
    `${param}.function.arguments`,
    `must be the JSON text of an object; got ${quote(given)}`,
  )
}

function isObjectText(text: string): boolean {
  try {
    return isObject(JSON.parse(text))
  } catch {
    return false
  }
}

/** The thought of an earlier answer is accepted; the template would leave it out. */
function checkTexts(message: JsonObject, param: string): void {
  for (const field of thoughtFields) {
    const value = message[field]
    if (value == null || typeof value === 'string') continue
    throw wrong(`${param}.${field}`, `must be a string; got ${quote(value)}`)
  }
}

/** DeepSeek's mark on a message that the reply is to continue. Null says nothing. */
export function isPrefix(message: unknown): boolean | null {
  return isObject(message) && typeof message.prefix === 'boolean' ? message.prefix : null
}

function checkPrefix(message: unknown, param: string, isLast: boolean): void {
  if (!isObject(message) || message.prefix == null) return
  if (typeof message.prefix !== 'boolean') {
    throw wrong(`${param}.prefix`, `must be true or false; got ${quote(message.prefix)}`)
  }
  if (message.prefix && !(isLast && message.role === 'assistant')) {
    throw wrong(`${param}.prefix`, 'may be true only on the last message, an assistant message')
  }
}

/** With its thought, which goes before its content. */
export function continuedMessage(message: ChatMessage, given: unknown, param: string): ChatMessage {
  const { content } = message
  const fields = isObject(given) ? thoughtFields.filter((field) => given[field]) : []
  const [field] = fields
  if (field === undefined) return message
  const thought = String((given as JsonObject)[field]).toWellFormed()
  if (/^\s*<think>|<\/think>/.test(content)) {
    throw wrong(`${param}.${field}`, 'and a thought in the content contradict each other')
  }
  return { ...message, content: writeThought(thought, content) }
}

/** `field`: where they stand in the body. */
export function parseMessages(value: unknown, field = 'messages'): readonly ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw wrong(field, 'must be a list of at least one message')
  }
  if (value.length > maxMessages) {
    throw wrong(field, `may hold ${maxMessages} messages; got ${value.length}`)
  }
  const open: OpenCalls = new Map()
  return value.map((message, i) => {
    const param = `${field}.${i}`
    const parsed = parseMessage(message, param, open)
    checkPrefix(message, param, i === value.length - 1)
    return parsed
  })
}
