// Messages to a prompt, by the checkpoint's own Jinja template. Contents cannot forge its shape
// (content-protection.ts). A thought is switched off as the template knows it; where it does not, the
// prompt ends with an empty thought.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ToolFormat } from '../contracts/engine.ts'
import type { ChatMessage } from '../contracts/generation.ts'
import { type ReplyPhase, thoughtEnd, thoughtStart } from '../contracts/thought.ts'
import { ServerError } from '../errors.ts'
import { createContentProtection } from './content-protection.ts'
import { readContinuedThought } from './continued-thought.ts'
import { phaseAfter } from './prompt-phase.ts'
import { type ChatTemplateOptions, createTemplateRenderer, lastEnd } from './template-renderer.ts'
import type { Tokenizer } from './tokenizer.ts'
import { readTokenizerConfig } from './tokenizer-file.ts'

interface Rendered {
  readonly rendered: string
  readonly phase: ReplyPhase
}

interface ChatPrompt {
  readonly tokens: number[]
  readonly phase: ReplyPhase
}

export interface ChatTemplate {
  /** null: the checkpoint has none. */
  readonly source: string | null
  /** How its model writes calls; null: it shows no tools. */
  readonly toolFormat: ToolFormat | null
  /** The prompt as text. Special texts in contents look as they did; encode keeps them apart. */
  render(messages: readonly ChatMessage[], options: ChatTemplateOptions): string
  encode(messages: readonly ChatMessage[], options: ChatTemplateOptions): ChatPrompt
}

/** A checkpoint without a template loads too; only its use is an error. */
export function loadChatTemplate(dir: string, tokenizer: Tokenizer): ChatTemplate {
  const source = readTemplate(dir)
  const { protect, unprotect, segments } = createContentProtection(tokenizer.specialTexts)
  const renderer = createTemplateRenderer(source, tokenizer)
  const { render: renderTemplate, toolFormat, requireShown } = renderer
  const knowsSwitch = source !== null && /\benable_thinking\b/.test(source)
  const knowsThoughts = tokenizer.specialTexts.includes(thoughtEnd) || source?.includes(thoughtEnd)

  /** The prompt, contents still protected, and where it leaves the reply. */
  function renderPrompt(messages: readonly ChatMessage[], options: ChatTemplateOptions): Rendered {
    requireShown(messages)
    if (options.continuesLast) return renderContinued(messages, options)
    const rendered = renderTemplate(messages, options)
    const phase = phaseAfter(rendered, () => renderBefore(messages, options))
    const isOff = options.thinking === false && options.addGenerationPrompt
    return isOff ? withoutThought({ rendered, phase }) : { rendered, phase }
  }

  /** What stands before the part that the template adds; nothing where it cannot stand alone. */
  function renderBefore(messages: readonly ChatMessage[], options: ChatTemplateOptions): string {
    try {
      return renderTemplate(messages, { ...options, addGenerationPrompt: false })
    } catch {
      return ''
    }
  }

  /** Thinking is off: closes the thought that the prompt opened, or that the reply would open. */
  function withoutThought({ rendered, phase }: Rendered): Rendered {
    const close = `\n${thoughtEnd}\n\n`
    if (isOpen(phase)) {
      const newline = rendered.endsWith('\n') ? '' : '\n'
      return { rendered: `${rendered}${newline}${close}`, phase: 'closed' }
    }
    if (phase !== 'beginning' || knowsSwitch || !knowsThoughts) return { rendered, phase }
    return { rendered: `${rendered}${thoughtStart}\n${close}`, phase: 'closed' }
  }

  function renderContinued(
    messages: readonly ChatMessage[],
    { thinking, tools }: ChatTemplateOptions,
  ): Rendered {
    const earlier = messages.slice(0, -1)
    const { content } = messages.at(-1)!
    const continued = readContinuedThought(content)
    if (continued === null) {
      const beginning = renderBeginning(earlier, thinking, tools)
      return continueAnswer(messages, beginning, thinking, tools)
    }
    const { thought, answer } = continued
    if (thinking === false && (answer === null || thought.trim() !== '')) {
      throw new ServerError(
        'invalid_value',
        'messages: the message to continue has a thought, and thinking is switched off; ' +
          'leave one of them out',
        { param: 'messages' },
      )
    }
    // Templates leave the thoughts of earlier answers out: this one begins as a reply does.
    const { rendered, phase } = renderPrompt(earlier, {
      addGenerationPrompt: true,
      thinking: true,
      tools,
    })
    const opening = isOpen(phase) ? '' : `${thoughtStart}\n`
    const opened = rendered + opening + protect({ role: 'user', content: thought })
    if (answer === null) {
      return { rendered: opened, phase: thought.trim() === '' ? 'opened' : 'thinking' }
    }
    return {
      rendered: `${opened}\n${thoughtEnd}\n\n${protect({ role: 'user', content: answer })}`,
      phase: answer.trim() === '' ? 'closed' : 'answering',
    }
  }

  /** A reply's beginning; null where the earlier messages cannot stand alone. */
  function renderBeginning(
    messages: readonly ChatMessage[],
    thinking: boolean | undefined,
    tools: ChatTemplateOptions['tools'],
  ): Rendered | null {
    try {
      return renderPrompt(messages, { addGenerationPrompt: true, thinking, tools })
    } catch {
      return null
    }
  }

  /** Behind an empty thought where a reply begins with a thought; else as the template has answers. */
  function continueAnswer(
    messages: readonly ChatMessage[],
    beginning: Rendered | null,
    thinking: boolean | undefined,
    tools: ChatTemplateOptions['tools'],
  ): Rendered {
    const { content } = messages.at(-1)!
    const isEmpty = content.trim() === ''
    if (beginning === null || beginning.phase === 'beginning') {
      const options = { addGenerationPrompt: false, continuesLast: true, thinking, tools }
      const rendered = cutAfterLast(renderTemplate(messages, options))
      return { rendered, phase: isEmpty ? 'beginning' : 'answering' }
    }
    if (isEmpty) return beginning
    const { rendered } = withoutThought(beginning)
    return {
      rendered: rendered + protect({ role: 'user', content }),
      phase: 'answering',
    }
  }

  return {
    source,
    toolFormat,
    render: (messages, options) => unprotect(renderPrompt(messages, options).rendered),
    encode(messages, options) {
      const { rendered, phase } = renderPrompt(messages, options)
      options.onRendered?.(unprotect(rendered))
      return { tokens: tokenizer.encodeSegments(segments(rendered)), phase }
    },
  }
}

function isOpen(phase: ReplyPhase): boolean {
  return phase === 'opened' || phase === 'thinking'
}

/** Up to where the message to continue ends; without its white space where the template trims it. */
function cutAfterLast(rendered: string): string {
  const at = rendered.lastIndexOf(lastEnd.trimEnd())
  if (at < 0) {
    throw new ServerError(
      'invalid_request',
      "The model's chat template leaves the last message out, so that it cannot be continued.",
      { param: 'messages' },
    )
  }
  const text = rendered.slice(0, at)
  return rendered.startsWith(lastEnd, at) ? text : text.trimEnd()
}

function readTemplate(path: string): string | null {
  const own = join(path, 'chat_template.jinja')
  if (existsSync(own)) return readFileSync(own, 'utf8')
  const templates = readTokenizerConfig(path).chat_template ?? null
  if (!Array.isArray(templates)) return templates
  return templates.find(({ name }) => name === 'default')?.template ?? null
}
