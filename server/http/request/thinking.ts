// Whether the model is to think, and whether the reply continues a message: every name that clients
// know for it. The names of one request must agree. Hints on how much to think change nothing.

import { z } from 'zod'
import type { ChatInput, ChatMessage } from '../../contracts/generation.ts'
import { isObject } from '../../contracts/json.ts'
import { rejectOthers, wrong } from './field-error.ts'
import { continuedMessage, isPrefix } from './messages.ts'

const efforts = ['none', 'default', 'auto', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max']
const effort = z.enum(efforts).nullish()
const flag = z.boolean().nullish()

export const thinkingFields = {
  include_reasoning: flag,
  // Alibaba, SGLang
  enable_thinking: flag,
  // Ollama
  think: z.union([z.boolean(), z.enum(['low', 'medium', 'high', 'max'])]).nullish(),
  // DeepSeek, GLM, Anthropic
  thinking: z
    .union([
      z.boolean(),
      z.looseObject({ type: z.enum(['enabled', 'disabled', 'auto', 'adaptive']).nullish() }),
    ])
    .nullish(),
  // OpenAI
  reasoning_effort: effort,
  // OpenRouter
  reasoning: z.looseObject({ effort, enabled: flag, exclude: flag }).nullish(),
  // vLLM
  chat_template_kwargs: z.looseObject({ enable_thinking: flag, thinking: flag }).nullish(),
  add_generation_prompt: flag,
  continue_final_message: flag,
}

type ThinkingFields = z.infer<z.ZodObject<typeof thinkingFields>>

/** Values that one thing may have under several names: what they say together. */
function agree(
  opinions: ReadonlyArray<readonly [name: string, value: boolean | null | undefined]>,
) {
  let first: readonly [name: string, value: boolean] | undefined
  for (const [name, value] of opinions) {
    if (value == null) continue
    first ??= [name, value]
    if (first[1] === value) continue
    throw wrong(name, `and ${first[0]} contradict each other; send one of them`)
  }
  return first?.[1]
}

function fromEffort(value: string | null | undefined): boolean | undefined {
  return value === 'none' ? false : undefined
}

function fromThink(value: ThinkingFields['think']): boolean | null | undefined {
  return typeof value === 'string' ? true : value
}

function fromType(value: ThinkingFields['thinking']): boolean | null | undefined {
  if (!isObject(value)) return value as boolean | null | undefined
  if (value.type === 'disabled') return false
  return value.type === 'enabled' ? true : undefined
}

/** Undefined: as the template does by itself. */
function resolveThinking(fields: ThinkingFields): boolean | undefined {
  rejectOthers('thinking', fields.thinking, ['type'])
  rejectOthers('reasoning', fields.reasoning, ['effort', 'enabled', 'exclude', 'summary'])
  rejectOthers('chat_template_kwargs', fields.chat_template_kwargs, ['enable_thinking', 'thinking'])
  return agree([
    ['enable_thinking', fields.enable_thinking],
    ['think', fromThink(fields.think)],
    ['thinking', fromType(fields.thinking)],
    ['reasoning_effort', fromEffort(fields.reasoning_effort)],
    ['reasoning.enabled', fields.reasoning?.enabled],
    ['reasoning.effort', fromEffort(fields.reasoning?.effort)],
    ['chat_template_kwargs.enable_thinking', fields.chat_template_kwargs?.enable_thinking],
    ['chat_template_kwargs.thinking', fields.chat_template_kwargs?.thinking],
  ])
}

/** The reply leaves the thought out. */
export function hidesThought(fields: ThinkingFields): boolean {
  const exclude = fields.reasoning?.exclude
  const shows = agree([
    ['include_reasoning', fields.include_reasoning],
    ['reasoning.exclude', exclude == null ? undefined : !exclude],
  ])
  return shows === false
}

/** Of /tokenize, where the prompt's ending is free: `add_generation_prompt` may be false. */
export function resolveChatText(
  fields: ThinkingFields,
  messages: readonly ChatMessage[],
  given: unknown,
): ChatInput & { readonly addGenerationPrompt: boolean } {
  const adds = fields.add_generation_prompt
  const free = { ...fields, add_generation_prompt: adds === true ? true : undefined }
  const input = resolveChatInput(free, messages, given)
  return { ...input, addGenerationPrompt: adds ?? !input.continuesLast }
}

/** `messages` are the parsed ones of the body, `given` as they came. */
export function resolveChatInput(
  fields: ThinkingFields,
  messages: readonly ChatMessage[],
  given: unknown,
): ChatInput {
  const last = (given as readonly unknown[]).at(-1)
  const continuesLast = agree([
    ['continue_final_message', fields.continue_final_message],
    [`messages.${messages.length - 1}.prefix`, isPrefix(last)],
  ])
  const adds = fields.add_generation_prompt
  if (continuesLast && adds === true) {
    throw wrong(
      'add_generation_prompt',
      'must be false where the last message is continued; leave it out',
    )
  }
  if (!continuesLast && adds === false) {
    throw wrong('add_generation_prompt', 'may be false only with "continue_final_message": true')
  }
  const thinking = resolveThinking(fields)
  const asked = thinking === undefined ? {} : { thinking }
  if (!continuesLast) return { messages, ...asked }
  if (messages.at(-1)!.role !== 'assistant') {
    throw wrong('messages', 'must end with an assistant message, which is to be continued')
  }
  if (messages.at(-1)!.toolCalls) {
    throw wrong(`messages.${messages.length - 1}.tool_calls`, 'cannot be continued')
  }
  const continued = continuedMessage(messages.at(-1)!, last, `messages.${messages.length - 1}`)
  return { messages: [...messages.slice(0, -1), continued], ...asked, continuesLast }
}
