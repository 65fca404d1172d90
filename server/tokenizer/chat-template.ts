// Messages to a prompt, by the checkpoint's own Jinja template. Message contents never become
// special tokens, so no text can forge the template's shape: before rendering, a break is put
// inside every special text that a content holds, and the rendered text is encoded piece by piece.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Template } from '@huggingface/jinja'
import type { ChatMessage } from '../contracts/generation.ts'
import { ServerError } from '../errors.ts'
import type { Tokenizer } from './tokenizer.ts'
import { readTokenizerConfig } from './tokenizer-file.ts'

interface ChatTemplateOptions {
  readonly addGenerationPrompt: boolean
  /** Sees the prompt as text before it is encoded; may throw. */
  readonly onRendered?: (text: string) => void
}

interface ChatPrompt {
  readonly tokens: number[]
  /** The prompt leaves a thought open: what is generated is reasoning until </think>. */
  readonly startsInReasoning: boolean
}

export interface ChatTemplate {
  /** The prompt as text. Special texts in contents look as they did; encode keeps them apart. */
  render(messages: readonly ChatMessage[], options: ChatTemplateOptions): string
  encode(messages: readonly ChatMessage[], options: ChatTemplateOptions): ChatPrompt
}

const thoughtStart = '<think>'
const thoughtEnd = '</think>'
// A noncharacter: Unicode keeps it for uses like this one; in input it becomes U+FFFD.
const mark = '\uFDD0'
const maxErrorChars = 200

/** A checkpoint without a template loads too; only its use is an error. */
export function loadChatTemplate(dir: string, tokenizer: Tokenizer): ChatTemplate {
  const source = readTemplate(dir)
  const template = source === null ? null : compile(source)
  const protect = createProtection(tokenizer.specialTexts)

  function renderMarked(messages: readonly ChatMessage[], options: ChatTemplateOptions): string {
    if (template === null) {
      throw new ServerError(
        'invalid_request',
        'This model has no chat template: use /v1/completions.',
      )
    }
    try {
      return template.render({
        ...tokenizer.namedTokens,
        messages: messages.map(({ role, content }) => ({ role, content: protect(role, content) })),
        add_generation_prompt: options.addGenerationPrompt,
        // transformers passes these as None.
        tools: null,
        documents: null,
      })
    } catch (error) {
      const why = String((error as Error).message ?? error).replaceAll(mark, '')
      throw new ServerError(
        'invalid_request',
        `The model's chat template refused these messages: ${why.slice(0, maxErrorChars)}`,
        { param: 'messages', cause: error },
      )
    }
  }

  return {
    render: (messages, options) => renderMarked(messages, options).replaceAll(mark, ''),
    encode(messages, options) {
      const rendered = renderMarked(messages, options)
      options.onRendered?.(rendered.replaceAll(mark, ''))
      return {
        tokens: tokenizer.encodeSegments(rendered.split(mark)),
        startsInReasoning: rendered.lastIndexOf(thoughtStart) > rendered.lastIndexOf(thoughtEnd),
      }
    },
  }
}

function readTemplate(dir: string): string | null {
  const path = join(dir, 'chat_template.jinja')
  if (existsSync(path)) return readFileSync(path, 'utf8')
  const templates = readTokenizerConfig(dir).chat_template ?? null
  if (!Array.isArray(templates)) return templates
  return templates.find(({ name }) => name === 'default')?.template ?? null
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

/** Returns a function that puts marks into a content wherever it holds a special text. */
function createProtection(specialTexts: readonly string[]) {
  function marks(texts: readonly string[]) {
    const alternatives = texts.filter((text) => [...text].length > 1).map(breakAfterFirst)
    return alternatives.length > 0 ? new RegExp(alternatives.join('|'), 'gu') : null
  }

  const inAnyText = marks(specialTexts)
  const inAnswer = marks(specialTexts.filter((text) => text !== thoughtEnd))

  const longest = Math.max(0, ...specialTexts.map((text) => text.length))
  const prefixes = new Set(
    specialTexts.flatMap((text) => Array.from({ length: text.length }, (_, i) => text.slice(0, i))),
  )

  function endsAsPrefix(text: string): boolean {
    for (let length = Math.min(longest, text.length); length > 0; length--) {
      if (prefixes.has(text.slice(-length))) return true
    }
    return false
  }

  /** Breaks what would become a special text if a template took </think> out of its middle. */
  function separate(answer: string): string {
    const parts = answer.split(thoughtEnd)
    return parts
      .map((part, i) => {
        if (i === parts.length - 1) return part
        return endsAsPrefix(part) ? part + mark : part
      })
      .join(thoughtEnd)
  }

  return (role: ChatMessage['role'], content: string): string => {
    let text = content.toWellFormed().replaceAll(mark, '\uFFFD')
    // Templates must see </think> in earlier answers to strip the thoughts before it.
    const isAnswer = role === 'assistant'
    const pattern = isAnswer ? inAnswer : inAnyText
    if (pattern) text = markSpecial(text, pattern)
    if (isAnswer && text.includes(thoughtEnd)) text = separate(text)
    // A combining mark must not join with what the template puts before it (">" + U+0338).
    return text.replace(/(?:^|<\/think>)\s*(?=\p{M})/gu, (start) => start + mark)
  }
}

function markSpecial(text: string, pattern: RegExp): string {
  const composed = text.normalize('NFC')
  // Where the checkpoint normalises, a text may become special by composition: then that form is
  // taken; any other text stays as it was written.
  const source = composed !== text && composed.search(pattern) >= 0 ? composed : text
  return source.replace(pattern, (first) => first + mark)
}

/** Matches the first character of the text where the rest of it follows. */
function breakAfterFirst(text: string): string {
  const [first, ...rest] = [...text].map(escapeRegExp)
  return `${first}(?=${rest.join('')})`
}

function escapeRegExp(char: string): string {
  return char.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
}
