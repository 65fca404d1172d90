// The input of a response as chat messages: a text, or a list of messages, thoughts, calls and results.
// What one turn of the model gave becomes one message again.

import { isObject, type JsonObject } from '../../contracts/json.ts'
import { wrong } from '../request/field-error.ts'
import { maxMessages } from '../request/messages.ts'
import { quote } from '../request/quote.ts'

/** A message of a chat's body, not yet checked. */
type Message = JsonObject

export interface ChatFromItems {
  readonly messages: readonly Message[]
  /** Where each message stands in the body. */
  readonly places: readonly string[]
}

const textParts = new Set(['input_text', 'output_text', 'text', 'summary_text', 'reasoning_text'])

function partText(part: unknown, param: string): string {
  if (!isObject(part)) throw wrong(param, `must be a content part; got ${quote(part)}`)
  if (part.type === 'refusal' && typeof part.refusal === 'string') return part.refusal
  if (typeof part.type !== 'string' || !textParts.has(part.type)) {
    throw wrong(
      `${param}.type`,
      `must be input_text or output_text: this model reads no other content; got ${quote(part.type)}`,
      'unsupported_content',
    )
  }
  if (typeof part.text === 'string') return part.text
  throw wrong(`${param}.text`, `must be a string; got ${quote(part.text)}`)
}

/** A text, or one of parts. */
function contentText(content: unknown, param: string): string {
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) {
    throw wrong(param, `must be a string or a list of parts; got ${quote(content)}`)
  }
  return content.map((part, i) => partText(part, `${param}.${i}`)).join('')
}

function stringOf(item: JsonObject, field: string, param: string): string {
  const value = item[field]
  if (typeof value === 'string' && value !== '') return value
  throw wrong(`${param}.${field}`, `must be a string; got ${quote(value)}`)
}

export function chatFromItems(input: unknown): ChatFromItems {
  if (typeof input === 'string') {
    return { messages: [{ role: 'user', content: input }], places: ['input'] }
  }
  if (!Array.isArray(input) || input.length === 0 || input.length > maxMessages) {
    throw wrong(
      'input',
      `must be a string or a list of 1–${maxMessages} items; got ${quote(input)}`,
    )
  }
  const messages: Message[] = []
  const places: string[] = []
  let thought = ''

  function say(message: Message, param: string): void {
    messages.push(message)
    places.push(param)
  }

  function takeThought(): Message {
    const text = thought
    thought = ''
    return text === '' ? {} : { reasoning_content: text }
  }

  function call(item: JsonObject, param: string): void {
    const given = item.arguments
    const made = {
      id: stringOf(item, 'call_id', param),
      type: 'function',
      function: { name: stringOf(item, 'name', param), arguments: given },
    }
    const last = messages.at(-1)
    if (last?.role !== 'assistant') {
      say({ role: 'assistant', content: '', ...takeThought(), tool_calls: [made] }, param)
      return
    }
    const calls = (last.tool_calls ?? []) as readonly object[]
    messages[messages.length - 1] = { ...last, ...takeThought(), tool_calls: [...calls, made] }
  }

  for (const [i, item] of input.entries()) {
    const param = `input.${i}`
    if (!isObject(item)) throw wrong(param, `must be an item; got ${quote(item)}`)
    switch (item.type ?? 'message') {
      case 'message': {
        const content = contentText(item.content, `${param}.content`)
        const own = item.role === 'assistant' ? takeThought() : {}
        say({ role: item.role, content, ...own }, param)
        break
      }
      case 'reasoning':
        thought = thoughtOf(item, param)
        break
      case 'function_call':
        call(item, param)
        break
      case 'function_call_output': {
        const content = contentText(item.output, `${param}.output`)
        say({ role: 'tool', tool_call_id: item.call_id, content }, param)
        break
      }
      case 'item_reference':
        throw wrong(
          `${param}.type`,
          'item_reference is not supported: nothing is kept here; send the item itself',
          'unsupported_value',
        )
      default:
        throw wrong(
          `${param}.type`,
          `must be message, reasoning, function_call or function_call_output; got ${quote(item.type)}`,
          'unsupported_content',
        )
    }
  }
  if (messages.length === 0) throw wrong('input', 'must hold a message beside its thoughts')
  return { messages, places }
}

/** Its own words where they are there, else its summary. */
function thoughtOf({ content, summary }: JsonObject, param: string): string {
  const own = content == null ? '' : contentText(content, `${param}.content`)
  if (own !== '') return own
  return summary == null ? '' : contentText(summary, `${param}.summary`)
}
