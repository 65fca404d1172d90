// The answer of POST /v1/completions: plain text, logprobs in the legacy shape. With `echo` the prompt
// comes before each choice's text, and its tokens before the choice's in the logprobs.

import type {
  FinishReason,
  GenerationEvent,
  PromptTokenLogprobs,
  TokenLogprobs,
} from '../../contracts/generation.ts'
import { adapterField } from './applied-adapters.ts'
import { promptLogprobsField } from './prompt-logprobs.ts'
import { createChunkUsage, type Reply, type ReplyHead } from './reply.ts'

type ShownToken = TokenLogprobs | PromptTokenLogprobs

type PromptEvent = Extract<GenerationEvent, { kind: 'prompt' }>

interface Choice {
  text: string
  logprobs: ShownToken[]
  promptLogprobs: readonly PromptTokenLogprobs[]
  /** Where the next token begins in the text, for text_offset. */
  offset: number
  finish: { reason: FinishReason; stopReason: string | number | null } | undefined
}

export interface CompletionReplyOptions extends ReplyHead {
  readonly choicesPerPrompt: number
  /** Alternatives shown for each token; null: no logprobs. */
  readonly logprobs: number | null
  readonly echo: boolean
  /** The same for vLLM's field of its own. */
  readonly promptLogprobs: number | null
}

export function createCompletionReply(options: CompletionReplyOptions): Reply {
  const { id, created, model, n, logprobs, echo } = options
  const usage = createChunkUsage(options.stream)
  const choices = Array.from({ length: n }, emptyChoice)
  let adapter: ReturnType<typeof adapterField> = []

  /** The choices of the event's prompt. */
  function choicesOf({ index }: PromptEvent): readonly Choice[] {
    return choices.slice(index, index + options.choicesPerPrompt)
  }

  /** prompt_logprobs may have asked for more alternatives than logprobs. */
  function echoed(event: PromptEvent): PromptTokenLogprobs[] {
    return (event.logprobs ?? []).map((token) => ({
      ...token,
      top: token.top.slice(0, logprobs ?? 0),
    }))
  }

  function collect(event: GenerationEvent): void {
    usage.count(event)
    if (event.kind === 'accepted') adapter = adapterField(event.adapters)
    if (event.kind === 'prompt') {
      for (const choice of choicesOf(event)) {
        choice.promptLogprobs = event.logprobs ?? []
        if (!echo) continue
        choice.text = event.text
        choice.logprobs.push(...echoed(event))
      }
    }
    if (event.kind === 'delta') {
      const choice = choices[event.index]!
      choice.text += event.text
      choice.logprobs.push(...(event.logprobs ?? []))
    }
    if (event.kind === 'choice_finished') {
      const { reason, stopReason } = event
      choices[event.index]!.finish = { reason, stopReason }
    }
  }

  const head = { id, object: 'text_completion', created, model }

  function chunk(index: number, text: string, rest: object = {}) {
    return {
      ...head,
      choices: [{ index, text, logprobs: null, finish_reason: null, ...rest }],
      ...usage.onChunk(),
    }
  }

  let isFirst = true

  /** The adapter is in the first chunk, whichever choice it is of. */
  function marked(chunks: readonly object[]): readonly object[] {
    if (!isFirst || chunks.length === 0) return chunks
    isFirst = false
    return chunks.map((one, i) => (i === 0 ? { ...one, adapter } : one))
  }

  function textChunks(index: number, text: string, all: readonly ShownToken[]): object[] {
    const tokens = logprobs === null ? [] : all
    if (text === '' && tokens.length === 0) return []
    const choice = choices[index]!
    const shown = tokens.length > 0 ? legacyLogprobs(tokens, choice.offset) : null
    choice.offset += tokens.reduce((sum, { token }) => sum + numCodePoints(token), 0)
    return [chunk(index, text, { logprobs: shown })]
  }

  function chunksOf(event: GenerationEvent): readonly object[] {
    switch (event.kind) {
      case 'prompt':
        return choicesOf(event).flatMap((_, i) =>
          echo ? textChunks(event.index + i, event.text, echoed(event)) : [],
        )
      case 'delta':
        return textChunks(event.index, event.text, event.logprobs ?? [])
      case 'choice_finished': {
        const { index, reason, stopReason } = event
        return [chunk(index, '', { finish_reason: reason, stop_reason: stopReason })]
      }
      case 'done':
        return options.stream.includeUsage ? [{ ...head, choices: [], usage: usage.usage() }] : []
      case 'accepted':
      case 'failed':
      case 'cancelled':
        return []
    }
  }

  return {
    chunks(event) {
      collect(event)
      return marked(chunksOf(event))
    },
    body: () => ({
      ...head,
      choices: choices.map((choice, index) => bodyChoice(choice, index, options)),
      usage: usage.usage(),
      adapter,
    }),
  }
}

function emptyChoice(): Choice {
  return { text: '', logprobs: [], promptLogprobs: [], offset: 0, finish: undefined }
}

/** A choice of the whole answer. */
function bodyChoice(choice: Choice, index: number, options: CompletionReplyOptions) {
  const { logprobs, promptLogprobs } = options
  return {
    index,
    text: choice.text,
    logprobs: logprobs === null ? null : legacyLogprobs(choice.logprobs, 0),
    finish_reason: choice.finish?.reason ?? null,
    stop_reason: choice.finish?.stopReason ?? null,
    ...(promptLogprobs === null
      ? {}
      : { prompt_logprobs: promptLogprobsField(choice.promptLogprobs, promptLogprobs) }),
  }
}

/** As OpenAI and vLLM count: Python's characters, not UTF-16 units. */
function numCodePoints(text: string): number {
  return [...text].length
}

function legacyLogprobs(tokens: readonly ShownToken[], offset: number) {
  let at = offset
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(({ logprob, top }) => (logprob === null ? null : topTable(top))),
    text_offset: tokens.map(({ token }) => {
      const start = at
      at += numCodePoints(token)
      return start
    }),
  }
}

/** Of tokens that read alike (halves of a code point) the likeliest stands. */
function topTable(top: TokenLogprobs['top']): Record<string, number> {
  const table = new Map<string, number>()
  for (const { token, logprob } of top) if (!table.has(token)) table.set(token, logprob)
  return Object.fromEntries(table)
}
