// Chat messages of a request: text only. Parsed one by one, so that the first wrong one ends the
// work and a body of a million wrong ones yields one error.

import type { ChatMessage } from '../../contracts/generation.ts'
import { isObject, type JsonObject } from '../../contracts/json.ts'
import { writeThought } from '../../contracts/thought.ts'
import { type ErrorCode, ServerError } from '../../errors.ts'
import { refuseMessageFields } from './message-fields.ts'
import { quote } from './quote.ts'

export const maxMessages = 10_000
const maxPartsPerMessage = 1_000

const roles: Readonly<Record<string, ChatMessage['role']>> = {
  system: 'system',
  developer: 'system',
  user: 'user',
  assistant: 'assistant',
}

const thoughtFields = ['reasoning_content', 'reasoning', 'thinking'] as const

export const messageRoles = Object.keys(roles)

function wrong(param: string, message: string, code: ErrorCode = 'invalid_value') {
  return new ServerError(code, `${param} ${message}`, { param })
}

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

function parseMessage(message: unknown, param: string): ChatMessage {
  if (!isObject(message)) throw wrong(param, `must be a message object; got ${quote(message)}`)
  const { role, content } = message
  if (role === 'tool' || role === 'function') {
    throw wrong(`${param}.role`, 'is not supported: this server has no tools', 'unsupported_value')
  }
  refuseMessageFields(message, param)
  const known = typeof role === 'string' && Object.hasOwn(roles, role) ? roles[role] : undefined
  if (known === undefined) {
    throw wrong(`${param}.role`, `must be system, developer, user or assistant; got ${quote(role)}`)
  }
  checkTexts(message, param)
  // An answer whose thought was cut has no content: clients send "", null or nothing back.
  const isAbsent = known === 'assistant' && isEmpty(content)
  const text = isAbsent ? '' : parseContent(content, `${param}.content`)
  // Lone surrogates become U+FFFD, as they would on the way to UTF-8.
  return { role: known, content: text.toWellFormed() }
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

export function parseMessages(value: unknown): readonly ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw wrong('messages', 'must be a list of at least one message')
  }
  if (value.length > maxMessages) {
    throw wrong('messages', `may hold ${maxMessages} messages; got ${value.length}`)
  }
  return value.map((message, i) => {
    const param = `messages.${i}`
    const parsed = parseMessage(message, param)
    checkPrefix(message, param, i === value.length - 1)
    return parsed
  })
}
