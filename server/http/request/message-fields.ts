// Every field of a chat message that OpenAI, vLLM, Ollama, DeepSeek or SGLang know, and what becomes of
// it here, as known-fields.ts has it for those of the body.

import { isObject, type JsonObject } from '../../contracts/json.ts'
import { ServerError } from '../../errors.ts'
import { empty, refused, supported, type Verdict } from './field-verdict.ts'
import { quote } from './quote.ts'

const olderCalls = refused(empty, 'send tool_calls', 'unsupported_value')
const textOnly = refused(
  empty,
  'this model reads no other content than text',
  'unsupported_content',
)

export const messageFields: Readonly<Record<string, Verdict>> = {
  role: supported(),
  content: supported(),
  // The thought of an earlier answer; it counts where the reply continues the message.
  reasoning_content: supported(),
  reasoning: supported(),
  thinking: supported(),
  prefix: supported(),

  name: { kind: 'harmless', why: 'chat templates show the role of who speaks' },
  annotations: { kind: 'harmless', why: 'sources of an earlier answer, beside its text' },

  tool_calls: supported(),
  tool_call_id: supported(),
  tool_name: { kind: 'harmless', why: 'its call has the name' },
  function_call: olderCalls,
  tools: refused(empty, 'tools are a field of the request', 'unsupported_value'),
  images: textOnly,
  audio: textOnly,
  refusal: refused(empty, 'send its text as content', 'unsupported_value'),
}

const known = new Map(Object.entries(messageFields))

/** Throws at a field that asks for something this server does not do. */
export function refuseMessageFields(message: JsonObject, param: string): void {
  for (const field of Object.keys(message)) {
    const verdict = known.get(field)
    const value = message[field]
    if (verdict?.kind !== 'refused' || value == null || verdict.unless.has(value, message)) continue
    throw new ServerError(
      verdict.code,
      `${param}.${field} is not supported: ${verdict.remedy}; got ${quote(value)}; leave it out`,
      { param: `${param}.${field}` },
    )
  }
}

/** Names that no table has, each once. */
export function unknownMessageFields(messages: unknown): Iterable<string> {
  const unknown = new Set<string>()
  for (const message of Array.isArray(messages) ? messages : []) {
    if (!isObject(message)) continue
    for (const field of Object.keys(message)) if (!known.has(field)) unknown.add(field)
  }
  return unknown
}
