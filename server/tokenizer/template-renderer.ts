// A checkpoint's Jinja template with messages, tools and calls put into it, their texts protected
// (content-protection.ts).

import { Template } from '@huggingface/jinja'
import type { ChatInput, ChatMessage } from '../contracts/generation.ts'
import { ServerError } from '../errors.ts'
import { createContentProtection } from './content-protection.ts'
import type { Tokenizer } from './tokenizer.ts'
import { createToolMessages, formatOf, probes } from './tool-messages.ts'

export interface ChatTemplateOptions extends Omit<ChatInput, 'messages'> {
  readonly addGenerationPrompt: boolean
  /** Sees the prompt as text before it is encoded; may throw. */
  readonly onRendered?: (text: string) => void
}

const maxErrorChars = 200
// Stands behind the message to continue. The space tells whether the template trims contents.
export const lastEnd = '\uFDD2 '

/** `source` null: there is no template, and only its use is an error. */
export function createTemplateRenderer(source: string | null, tokenizer: Tokenizer) {
  const template = source === null ? null : compile(source)
  const protection = createContentProtection(tokenizer.specialTexts)
  const { protect, unprotect } = protection
  const toolMessages = createToolMessages(source ?? '', protection)

  function render(
    messages: readonly ChatMessage[],
    { addGenerationPrompt, thinking, continuesLast = false, tools = [] }: ChatTemplateOptions,
  ): string {
    if (template === null) {
      throw new ServerError(
        'invalid_request',
        'This model has no chat template: use /v1/completions.',
      )
    }
    const last = continuesLast ? messages.length - 1 : -1
    try {
      return template.render({
        ...tokenizer.namedTokens,
        messages: messages.map((message, i) => ({
          ...toolMessages.toTemplate(message),
          ...(i === last ? { content: protect(message) + lastEnd } : {}),
        })),
        add_generation_prompt: addGenerationPrompt && !continuesLast,
        // Qwen3 and others know the first, DeepSeek and Granite the second.
        ...(thinking === undefined ? {} : { enable_thinking: thinking, thinking }),
        // transformers passes these as None.
        tools: tools.length === 0 ? null : toolMessages.showTools(tools),
        documents: null,
      })
    } catch (error) {
      const why = unprotect(String((error as Error).message ?? error))
      throw new ServerError(
        'invalid_request',
        `The model's chat template refused these messages: ${why.slice(0, maxErrorChars)}`,
        { param: 'messages', cause: error },
      )
    }
  }

  /** Whether the template shows the tools, and the results of calls, told by rendering some. */
  function shows(part: 'tools' | 'results'): boolean {
    try {
      const { messages, tools, texts } = probes[part]
      const rendered = render(messages, { addGenerationPrompt: true, tools })
      return texts.every((text) => rendered.includes(text))
    } catch {
      return false
    }
  }

  // Only a template that names them is rendered at the start.
  const toolFormat =
    source !== null && /\btools\b/.test(source) && shows('tools') ? formatOf(source) : null
  let showsResults: boolean | undefined

  function requireShown(messages: readonly ChatMessage[]): void {
    const at = messages.findIndex(({ role, toolCalls }) => role === 'tool' || toolCalls?.length)
    if (at < 0) return
    showsResults ??= shows('results')
    if (showsResults) return
    throw new ServerError(
      'unsupported_value',
      "The model's chat template shows no calls of tools and no results; send them as text.",
      { param: `messages.${at}` },
    )
  }

  return { render, toolFormat, requireShown }
}

function compile(source: string): Template {
  try {
    return new Template(source)
  } catch (error) {
    throw new ServerError(
      'invalid_checkpoint',
      `The chat template cannot be parsed: ${(error as Error).message}`,
      { cause: error },
    )
  }
}
