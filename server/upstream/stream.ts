// The events of one streamed completion, each checked: that it is the asked model that answers, that there is
// an end, and that no pause is longer than it may be.

import type { IncomingMessage } from 'node:http'
import { createParser } from 'eventsource-parser'
import { mayBeAskedAgain, requireSameModel, UpstreamFailure } from './failure.ts'
import { explain } from './transport.ts'
import { type Chunk, parseChunk } from './wire.ts'

export interface StreamOptions {
  /** The name that was asked for: vLLM answers as another where it does not know it. */
  readonly model: string
  readonly numTop: number | null
  /** Told in place of the likeliest. */
  readonly namedTokens: readonly number[]
  /** Longest pause after the first token; null: none, while it may wait in a queue. */
  readonly silenceMs: number
  readonly signal: AbortSignal
}

/** Ends after the end; throws UpstreamFailure, or the signal's reason. */
export async function* readStream(
  answer: IncomingMessage,
  { model, numTop, namedTokens, silenceMs, signal }: StreamOptions,
): AsyncGenerator<Chunk> {
  const events: string[] = []
  const parser = createParser({ onEvent: ({ data }) => events.push(data) })
  const decoder = new TextDecoder()
  let timer: NodeJS.Timeout | undefined
  let isEnded = false
  let hasBegun = false
  const watch = () => {
    clearTimeout(timer)
    const silent = new UpstreamFailure('silent', `no byte in ${silenceMs} ms`)
    timer = setTimeout(() => answer.destroy(silent), silenceMs)
  }
  try {
    for await (const bytes of answer) {
      parser.feed(decoder.decode(bytes, { stream: true }))
      for (const data of events.splice(0)) {
        // Read on to the last byte: the connection can then be used again.
        if (data === '[DONE]') continue
        const chunk = parseChunk(data, numTop, { named: namedTokens })
        requireSameModel(chunk.model, model)
        isEnded ||= chunk.finish !== null
        // What it only counts before its first token begins nothing.
        hasBegun ||= isEnded || chunk.tokens.length > 0
        if (!hasBegun) continue
        yield chunk
        watch()
      }
    }
  } catch (error) {
    const why = explain(error, signal)
    // What has begun to be told cannot be told again by another upstream.
    if (hasBegun && why instanceof UpstreamFailure && mayBeAskedAgain(why)) {
      throw new UpstreamFailure('broken', why.message, { cause: error })
    }
    throw why
  } finally {
    clearTimeout(timer)
    answer.destroy()
  }
  if (!isEnded) {
    throw new UpstreamFailure(hasBegun ? 'broken' : 'outage', 'the stream has no end')
  }
}
