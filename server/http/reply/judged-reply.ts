// A reply that tells what its guard said, around one that tells the text. In a stream the field `safety`
// rides on the next chunk of its choice and on the one with finish_reason; chunks without choices go
// only to a request that asks for them, because the usual loop reads choices[0].

import type { GenerationEvent } from '../../contracts/generation.ts'
import { LongJson } from './long-json.ts'
import { moderationField } from './moderation-field.ts'
import type { Reply, ReplyHead } from './reply.ts'

export interface JudgedReplyOptions extends ReplyHead {
  /** Of a stream's chunks. */
  readonly object: 'chat.completion.chunk' | 'text_completion'
  readonly choicesPerPrompt: number
  /** OpenAI's field is wanted, too. */
  readonly wantsModeration: boolean
}

export function createJudgedReply(inner: Reply, options: JudgedReplyOptions): Reply {
  const { id, object, created, model, safety, n } = options
  /** Choices whose last verdict no chunk has told yet. */
  const untold = new Set<number>()
  let isFirst = true

  function bareChunk(fields: object) {
    const usage = options.stream.includeUsage ? { usage: null } : {}
    return { id, object, created, model, choices: [], ...usage, ...fields }
  }

  function field(index: number) {
    return { safety: { index, ...safety.fieldOf(index) } }
  }

  function news({ kind, index }: Extract<GenerationEvent, { index: number }>): object[] {
    if (kind !== 'verdict' && kind !== 'escalated') return []
    if (options.stream.includeSafety) return [bareChunk(field(index))]
    untold.add(index)
    return []
  }

  /** What rides on the first chunk that comes of this event. */
  function riding(event: GenerationEvent): object {
    if (!safety.isOn) return isFirst ? { safety: null } : {}
    if (event.kind !== 'delta' && event.kind !== 'choice_finished') return {}
    const isTold = event.kind === 'choice_finished' || untold.has(event.index)
    return isTold ? field(event.index) : {}
  }

  function* decorated(event: GenerationEvent): Iterable<object> {
    let rides = riding(event)
    for (const chunk of inner.chunks(event)) {
      yield chunk instanceof LongJson ? chunk.with(rides) : { ...chunk, ...rides }
      if ('index' in event && Object.keys(rides).length > 0) untold.delete(event.index)
      rides = {}
      isFirst = false
    }
  }

  return {
    collect(event) {
      safety.count(event)
      inner.collect(event)
    },
    *chunks(event) {
      safety.count(event)
      if (safety.isOn && 'index' in event) yield* news(event)
      // OpenAI's moderation chunk; usage stays the last one.
      if (event.kind === 'done' && options.wantsModeration) {
        yield bareChunk({ moderation: moderationField(safety, options) })
      }
      yield* decorated(event)
    },
    body: () => ({
      ...inner.body(),
      ...(options.wantsModeration ? { moderation: moderationField(safety, options) } : {}),
      // Of several choices each has its own.
      ...(safety.isOn && n > 1 ? {} : { safety: safety.fieldOf(0) }),
    }),
  }
}
