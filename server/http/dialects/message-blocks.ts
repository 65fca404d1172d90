// The messages of Anthropic's shape as those of a chat: blocks of text, thoughts, calls and results.

import { isObject, type JsonObject } from '../../contracts/json.ts'
import type { ServerError } from '../../errors.ts'
import { wrong } from '../request/field-error.ts'
import { maxMessages } from '../request/messages.ts'
import { quote } from '../request/quote.ts'

export interface ChatFromMessages {
  /** As a chat's body has them, not yet checked. */
  readonly messages: readonly JsonObject[]
  /** Where each stands in the body. */
  readonly places: readonly string[]
}

function unsupported(param: string, type: unknown): ServerError {
  return wrong(
    `${param}.type`,
    `must be text, thinking, tool_use or tool_result: this model reads no other content; got ${quote(type)}`,
    'unsupported_content',
  )
}

/** A text, or one of text blocks. */
function textOfBlocks(content: unknown, param: string): string {
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) {
    throw wrong(param, `must be a string or a list of text blocks; got ${quote(content)}`)
  }
  return content.map((block, i) => textOfBlock(block, `${param}.${i}`)).join('')
}

function textOfBlock(block: unknown, param: string): string {
  if (!isObject(block)) throw wrong(param, `must be a block; got ${quote(block)}`)
  if (block.type !== 'text') throw unsupported(param, block.type)
  if (typeof block.text === 'string') return block.text
  throw wrong(`${param}.text`, `must be a string; got ${quote(block.text)}`)
}

/** What the blocks of one message are together. */
interface Gathered {
  text: string
  thought: string
  readonly calls: JsonObject[]
  readonly results: (readonly [message: JsonObject, place: string])[]
}

function takeBlock(all: Gathered, block: unknown, param: string, isAssistant: boolean): void {
  if (!isObject(block)) throw wrong(param, `must be a block; got ${quote(block)}`)
  switch (block.type) {
    case 'text':
      all.text += textOfBlock(block, param)
      return
    case 'thinking':
      if (!isAssistant) throw wrong(`${param}.type`, 'may be thinking in an assistant message only')
      if (typeof block.thinking !== 'string') {
        throw wrong(`${param}.thinking`, `must be a string; got ${quote(block.thinking)}`)
      }
      all.thought += block.thinking
      return
    case 'redacted_thinking':
      return
    case 'tool_use':
      if (!isAssistant) throw wrong(`${param}.type`, 'may be tool_use in an assistant message only')
      if (!isObject(block.input)) {
        throw wrong(`${param}.input`, `must be an object; got ${quote(block.input)}`)
      }
      all.calls.push({
        id: block.id,
        type: 'function',
        function: { name: block.name, arguments: block.input },
      })
      return
    case 'tool_result': {
      if (isAssistant) throw wrong(`${param}.type`, 'may be tool_result in a user message only')
      const text = block.content == null ? '' : textOfBlocks(block.content, `${param}.content`)
      const message = { role: 'tool', tool_call_id: block.tool_use_id, content: text }
      all.results.push([message, param])
      return
    }
    default:
      throw unsupported(param, block.type)
  }
}

export function chatFromMessages(system: unknown, value: unknown): ChatFromMessages {
  if (!Array.isArray(value) || value.length === 0 || value.length > maxMessages) {
    throw wrong('messages', `must be a list of 1–${maxMessages} messages; got ${quote(value)}`)
  }
  const messages: JsonObject[] = []
  const places: string[] = []

  function say(message: JsonObject, place: string): void {
    messages.push(message)
    places.push(place)
  }

  if (system != null) {
    const content = textOfBlocks(system, 'system')
    if (content !== '') say({ role: 'system', content }, 'system')
  }
  for (const [i, message] of value.entries()) {
    const param = `messages.${i}`
    if (!isObject(message)) throw wrong(param, `must be a message; got ${quote(message)}`)
    const { role, content } = message
    if (role !== 'user' && role !== 'assistant') {
      throw wrong(`${param}.role`, `must be user or assistant; got ${quote(role)}`)
    }
    const all: Gathered = { text: '', thought: '', calls: [], results: [] }
    if (typeof content === 'string') all.text = content
    else if (!Array.isArray(content)) {
      throw wrong(`${param}.content`, `must be a string or a list of blocks; got ${quote(content)}`)
    } else {
      for (const [j, block] of content.entries()) {
        takeBlock(all, block, `${param}.content.${j}`, role === 'assistant')
      }
    }
    // Results answer the message before this one: they come first.
    for (const [result, place] of all.results) say(result, place)
    if (role === 'user' && all.results.length > 0 && all.text === '') continue
    say(
      {
        role,
        content: all.text,
        ...(all.thought === '' ? {} : { reasoning_content: all.thought }),
        ...(all.calls.length === 0 ? {} : { tool_calls: all.calls }),
      },
      param,
    )
  }
  return { messages, places }
}
