// The answer of POST /v1/chat/completions. The thought is `reasoning` and `reasoning_content` (see
// --reasoning-field), the answer is `content`: "" where a thought was cut and no answer came.

import type { FinishReason, GenerationEvent, TokenLogprobs } from '../../contracts/generation.ts'
import type { PromptLogprobs } from '../../contracts/prompt-logprobs.ts'
import type { ReasoningField } from '../../contracts/reasoning-field.ts'
import { adapterField } from './applied-adapters.ts'
import { each } from './lazy-list.ts'
import { promptLogprobsField } from './prompt-logprobs.ts'
import { toRaw } from './raw-json.ts'
import { createChunkUsage, type Reply, type ReplyHead } from './reply.ts'

export interface ChatReplyOptions extends ReplyHead {
  readonly reasoningField: ReasoningField
  readonly logprobs: boolean
  /** Alternatives for each token of the prompt; null: nothing of the prompt. */
  readonly promptLogprobs: number | null
}

interface Choice {
  reasoning: string
  content: string
  /** JSON of each token. */
  logprobs: string[]
  finish: { reason: FinishReason; stopReason: string | number | null } | undefined
}

type Delta = Extract<GenerationEvent, { kind: 'delta' }>

export function createChatReply(options: ChatReplyOptions): Reply {
  const { id, created, model, n, logprobs } = options
  const usage = createChunkUsage(options.stream)
  const choices = Array.from({ length: n }, emptyChoice)
  let adapter: ReturnType<typeof adapterField> = []
  let promptLogprobs: PromptLogprobs | null = null

  function isHidden(delta: Delta) {
    return delta.section === 'reasoning' && options.reasoningField === 'none'
  }

  function collect(event: GenerationEvent): void {
    usage.count(event)
    if (event.kind === 'accepted') adapter = adapterField(event.adapters)
    if (event.kind === 'prompt') promptLogprobs = event.logprobs
    if (event.kind === 'choice_finished') {
      const { reason, stopReason } = event
      choices[event.index]!.finish = { reason, stopReason }
    }
    if (event.kind !== 'delta') return
    const choice = choices[event.index]!
    choice[event.section] += event.text
    if (!logprobs || isHidden(event)) return
    for (const token of event.logprobs ?? []) choice.logprobs.push(JSON.stringify(chatToken(token)))
  }

  function chunk(index: number, delta: object, rest: object = {}) {
    return {
      id,
      object: 'chat.completion.chunk',
      created,
      model,
      choices: [{ index, delta, logprobs: null, finish_reason: null, ...rest }],
      ...usage.onChunk(),
    }
  }

  function deltaChunks(event: Delta): object[] {
    const shown =
      event.section === 'content'
        ? { content: event.text }
        : thought(event.text, options.reasoningField)
    const tokens = logprobs && event.logprobs ? { logprobs: chatLogprobs(event.logprobs) } : {}
    const isEmpty = event.text === '' && !(logprobs && event.logprobs?.length)
    return isHidden(event) || isEmpty ? [] : [chunk(event.index, shown, tokens)]
  }

  return {
    collect,
    chunks(event) {
      usage.count(event)
      if (event.kind === 'accepted') adapter = adapterField(event.adapters)
      switch (event.kind) {
        case 'accepted':
          // The role comes once for each choice, the adapter once for the stream.
          return choices.map((_, index) => {
            const first = chunk(index, { role: 'assistant', content: '' })
            return index === 0 ? { ...first, adapter } : first
          })
        case 'delta':
          return deltaChunks(event)
        case 'choice_finished':
          return [
            chunk(event.index, {}, { finish_reason: event.reason, stop_reason: event.stopReason }),
          ]
        case 'done':
          return options.stream.includeUsage
            ? [{ ...chunk(0, {}), choices: [], usage: usage.usage() }]
            : []
        case 'prompt':
        case 'failed':
        case 'cancelled':
          return []
      }
    },
    body: () => ({
      id,
      object: 'chat.completion',
      created,
      model,
      choices: each(choices, (choice, index) => bodyChoice(choice, index, options)),
      usage: usage.usage(),
      ...(options.promptLogprobs === null
        ? {}
        : { prompt_logprobs: promptLogprobsField(promptLogprobs, options.promptLogprobs) }),
      adapter,
    }),
  }
}

function emptyChoice(): Choice {
  return { reasoning: '', content: '', logprobs: [], finish: undefined }
}

/** A choice of the whole answer. */
function bodyChoice(choice: Choice, index: number, options: ChatReplyOptions) {
  const { reasoning, content, finish } = choice
  return {
    index,
    message: {
      role: 'assistant',
      content,
      refusal: null,
      ...thought(reasoning === '' ? null : reasoning, options.reasoningField),
    },
    logprobs: options.logprobs ? { content: each(choice.logprobs, toRaw), refusal: null } : null,
    finish_reason: finish?.reason ?? null,
    stop_reason: finish?.stopReason ?? null,
  }
}

function thought(text: string | null, field: ReasoningField): object {
  switch (field) {
    case 'both':
      return { reasoning: text, reasoning_content: text }
    case 'none':
      return {}
    default:
      return { [field]: text }
  }
}

function chatLogprobs(tokens: readonly TokenLogprobs[]) {
  return { content: tokens.map(chatToken), refusal: null }
}

function chatToken({ token, logprob, bytes, top }: TokenLogprobs) {
  return {
    token,
    logprob,
    bytes,
    top_logprobs: top.map((other) => ({
      token: other.token,
      logprob: other.logprob,
      bytes: other.bytes,
    })),
  }
}
