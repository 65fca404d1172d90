// The answer of POST /v1/completions: plain text, logprobs in the legacy shape.

import type { FinishReason, GenerationEvent, TokenLogprobs } from '../contracts/generation.ts'
import { adapterField } from './applied-adapters.ts'
import { createChunkUsage, type Reply, type ReplyHead, type StreamOptions } from './reply.ts'

interface Choice {
  text: string
  logprobs: TokenLogprobs[]
  /** Where the next token begins in the text, for text_offset. */
  offset: number
  finish: { reason: FinishReason; stopReason: string | number | null } | undefined
}

export const createCompletionReply = (
  options: ReplyHead & { readonly logprobs: boolean; readonly stream: StreamOptions },
): Reply => {
  const { id, created, model, n, logprobs } = options
  const usage = createChunkUsage(options.stream)
  const choices = Array.from(
    { length: n },
    (): Choice => ({ text: '', logprobs: [], offset: 0, finish: undefined }),
  )
  let adapter: ReturnType<typeof adapterField> = []

  const collect = (event: GenerationEvent): void => {
    usage.count(event)
    if (event.kind === 'accepted') adapter = adapterField(event.adapters)
    if (event.kind === 'delta') {
      const choice = choices[event.index] as Choice
      choice.text += event.text
      choice.logprobs.push(...(event.logprobs ?? []))
    }
    if (event.kind === 'choice_finished') {
      const { reason, stopReason } = event
      ;(choices[event.index] as Choice).finish = { reason, stopReason }
    }
  }

  const head = { id, object: 'text_completion', created, model }
  const chunk = (index: number, text: string, rest: object = {}) => ({
    ...head,
    choices: [{ index, text, logprobs: null, finish_reason: null, ...rest }],
    ...usage.onChunk(),
  })
  let isFirst = true
  /** The adapter is in the first chunk, whichever choice it is of. */
  const marked = (chunks: readonly object[]): readonly object[] => {
    if (!isFirst || chunks.length === 0) return chunks
    isFirst = false
    return chunks.map((one, i) => (i === 0 ? { ...one, adapter } : one))
  }

  const chunksOf = (event: GenerationEvent): readonly object[] => {
    switch (event.kind) {
      case 'delta': {
        const tokens = logprobs ? (event.logprobs ?? []) : []
        if (event.text === '' && tokens.length === 0) return []
        const choice = choices[event.index] as Choice
        const shown = tokens.length > 0 ? legacyLogprobs(tokens, choice.offset) : null
        choice.offset += tokens.reduce((sum, { token }) => sum + numCodePoints(token), 0)
        return [chunk(event.index, event.text, { logprobs: shown })]
      }
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
      choices: choices.map((choice, index) => ({
        index,
        text: choice.text,
        logprobs: logprobs ? legacyLogprobs(choice.logprobs, 0) : null,
        finish_reason: choice.finish?.reason ?? null,
        stop_reason: choice.finish?.stopReason ?? null,
      })),
      usage: usage.usage(),
      adapter,
    }),
  }
}

/** As OpenAI and vLLM count: Python's characters, not UTF-16 units. */
const numCodePoints = (text: string): number => [...text].length

const legacyLogprobs = (tokens: readonly TokenLogprobs[], offset: number) => {
  let at = offset
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(({ top }) =>
      Object.fromEntries(top.map(({ token, logprob }) => [token, logprob])),
    ),
    text_offset: tokens.map(({ token }) => {
      const start = at
      at += numCodePoints(token)
      return start
    }),
  }
}
