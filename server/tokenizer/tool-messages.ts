// Tools, calls and results as chat templates take them, and how a template's model writes its calls.

import type { ToolFormat } from '../contracts/engine.ts'
import type { ChatInput, ChatMessage, ToolDefinition } from '../contracts/generation.ts'
import { isObject } from '../contracts/json.ts'
import type { ContentProtection } from './content-protection.ts'

/** By the marks that the template itself writes. */
export function formatOf(source: string): ToolFormat {
  if (source.includes('<｜tool▁sep｜>')) return 'deepseek'
  return source.includes('<tool_call>') ? 'hermes' : 'llama3'
}

export function createToolMessages(source: string, protection: ContentProtection) {
  const { protect, protectJson } = protection
  // Some write the arguments as JSON themselves, others take the text.
  const takesObject = /arguments\s*\|\s*tojson/.test(source)

  function shownArguments(text: string): unknown {
    return takesObject ? protectJson(objectOf(text)) : protect({ role: 'user', content: text })
  }

  return {
    toTemplate(message: ChatMessage): Record<string, unknown> {
      const { role, toolCalls = [], answers } = message
      const content = protect(message)
      if (answers !== undefined) {
        const named = { name: protectJson(answers.name), tool_call_id: protectJson(answers.id) }
        return { role, content, ...named }
      }
      if (toolCalls.length === 0) return { role, content }
      return {
        role,
        // Templates tell an answer from a call by that.
        content: message.content === '' ? null : content,
        tool_calls: toolCalls.map((call) => ({
          id: protectJson(call.id),
          type: 'function',
          function: { name: protectJson(call.name), arguments: shownArguments(call.arguments) },
        })),
      }
    },

    showTools: (tools: readonly ToolDefinition[]): readonly object[] =>
      tools.map(({ name, description, parameters }) => ({
        type: 'function',
        function: {
          name: protectJson(name),
          ...(description === null ? {} : { description: protectJson(description) }),
          ...(parameters === null ? {} : { parameters: protectJson(parameters) }),
        },
      })),
  }
}

function objectOf(text: string): object {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : {}
  } catch {
    return {}
  }
}

interface Probe extends ChatInput {
  /** What a template that shows it writes. */
  readonly texts: readonly string[]
}

const user: ChatMessage = { role: 'user', content: 'question' }
const call = { id: 'probe0001', name: 'probe_tool', arguments: '{"probe_key":"probe value"}' }

export const probes: Readonly<Record<'tools' | 'results', Probe>> = {
  tools: {
    messages: [user],
    tools: [
      {
        name: 'probe_tool',
        description: 'probe purpose',
        parameters: { type: 'object', properties: { probe_key: { type: 'string' } } },
      },
    ],
    texts: ['probe_tool', 'probe_key'],
  },
  results: {
    messages: [
      user,
      { role: 'assistant', content: '', toolCalls: [call] },
      { role: 'tool', content: 'probe result', answers: call },
    ],
    texts: ['probe_tool', 'probe_key', 'probe result'],
  },
}
