// The answer of POST /v1/completions: plain text, logprobs in the legacy shape. With `echo` the prompt
// comes before each choice's text, and its tokens before the choice's in the logprobs.

import type { FinishReason, GenerationEvent } from '../../contracts/generation.ts'
import { type PromptLogprobs, promptBytes } from '../../contracts/prompt-logprobs.ts'
import { type Attested, attestedFields } from './applied-adapters.ts'
import { each } from './lazy-list.ts'
import {
  chunkLogprobs,
  createEchoedList,
  type ShownList,
  type ShownToken,
  TokenList,
  wholeLogprobs,
} from './legacy-logprobs.ts'
import { LongJson } from './long-json.ts'
import { promptLogprobsField } from './prompt-logprobs.ts'
import { createChunkUsage, type Reply, type ReplyHead } from './reply.ts'
import { createTextOffsets, type TextOffsets } from './text-offsets.ts'

type PromptEvent = Extract<GenerationEvent, { kind: 'prompt' }>

interface Choice {
  text: string
  /** The prompt's as it is echoed, shared by its choices, then the choice's own. */
  tokens: readonly [ShownList, TokenList]
  promptLogprobs: PromptLogprobs | null
  promptIds: readonly number[]
  tokenIds: number[]
  offsets: TextOffsets
  finish: { reason: FinishReason; stopReason: string | number | null } | undefined
}

export interface CompletionReplyOptions extends ReplyHead {
  readonly choicesPerPrompt: number
  /** Alternatives shown for each token; null: no logprobs. */
  readonly logprobs: number | null
  readonly echo: boolean
  /** The same for vLLM's field of its own. */
  readonly promptLogprobs: number | null
  readonly tokenIds: boolean
}

export function createCompletionReply(options: CompletionReplyOptions): Reply {
  const { id, created, model, n, logprobs, echo } = options
  const usage = createChunkUsage(options.stream)
  const choices = Array.from({ length: n }, emptyChoice)
  let attested: Attested = { adapter: [] }

  /** The choices of the event's prompt. */
  function choicesOf({ index }: PromptEvent): readonly Choice[] {
    return choices.slice(index, index + options.choicesPerPrompt)
  }

  /** The prompt's tokens as its choices show them. */
  function echoed(event: PromptEvent, offsets: TextOffsets): ShownList {
    if (!echo || logprobs === null || event.logprobs === null) return new TokenList()
    return createEchoedList({
      table: event.logprobs,
      // prompt_logprobs may have asked for more alternatives.
      numTop: logprobs,
      starts: offsets.ofPrompt(promptBytes(event.logprobs), event.text),
      isShared: options.choicesPerPrompt > 1,
    })
  }

  function collect(event: GenerationEvent): void {
    usage.count(event)
    if (event.kind === 'accepted') attested = attestedFields(event)
    if (event.kind === 'prompt') {
      const offsets = createTextOffsets()
      const list = echoed(event, offsets)
      for (const choice of choicesOf(event)) {
        choice.promptLogprobs = options.promptLogprobs === null ? null : event.logprobs
        choice.promptIds = event.tokenIds ?? []
        if (!echo) continue
        choice.text = event.text
        choice.tokens = [list, new TokenList()]
        choice.offsets = createTextOffsets(offsets.numChars)
      }
    }
    if (event.kind === 'delta') {
      const choice = choices[event.index]!
      choice.text += event.text
      choice.tokenIds.push(...(event.tokenIds ?? []))
      const tokens = logprobs === null ? [] : (event.logprobs ?? [])
      choice.tokens[1].add(tokens, choice.offsets.next(tokens))
    }
    if (event.kind === 'choice_finished') {
      const { reason, stopReason } = event
      choices[event.index]!.finish = { reason, stopReason }
    }
  }

  const head = { id, object: 'text_completion', created, model }

  function chunk(index: number, text: string, rest: object = {}) {
    return chunkOf([{ index, text, logprobs: null, finish_reason: null, ...rest }])
  }

  function chunkOf(choices: Iterable<object>) {
    return { ...head, choices, ...usage.onChunk() }
  }

  let isFirst = true

  /** The adapter is in the first chunk, whichever choice it is of. */
  function* marked(chunks: Iterable<object>): Iterable<object> {
    for (const one of chunks) {
      if (!isFirst) yield one
      else yield one instanceof LongJson ? one.with({ ...attested }) : { ...one, ...attested }
      isFirst = false
    }
  }

  function* promptChunks(event: PromptEvent): Iterable<object> {
    const { text } = event
    const offsets = createTextOffsets()
    const list = echoed(event, offsets)
    for (const [i, choice] of choicesOf(event).entries()) {
      const index = event.index + i
      // What the choice says comes behind the prompt.
      choice.offsets = createTextOffsets(offsets.numChars)
      const ids = event.tokenIds ? { prompt_token_ids: event.tokenIds } : {}
      if (list.starts.length === 0) yield* textChunk(index, text, [], [], ids)
      else yield promptChunk(index, text, list, ids)
    }
  }

  function promptIdChunks({ index, tokenIds }: PromptEvent): object[] {
    if (tokenIds === undefined) return []
    const all = Array.from({ length: options.choicesPerPrompt }, (_, i) => index + i)
    return all.map((at) => chunk(at, '', { prompt_token_ids: tokenIds }))
  }

  /** Of a whole prompt, which may be long. */
  function promptChunk(index: number, text: string, list: ShownList, ids: object): LongJson {
    const choice = { index, text, logprobs: wholeLogprobs([list]), finish_reason: null, ...ids }
    return new LongJson(chunkOf(each([choice], (one) => one)))
  }

  function textChunk(
    index: number,
    text: string,
    tokens: readonly ShownToken[],
    starts: readonly number[],
    ids: object,
  ): object[] {
    if (text === '' && tokens.length === 0 && Object.keys(ids).length === 0) return []
    const shown = tokens.length > 0 ? chunkLogprobs(tokens, starts) : null
    return [chunk(index, text, { logprobs: shown, ...ids })]
  }

  function chunksOf(event: GenerationEvent): Iterable<object> {
    switch (event.kind) {
      case 'prompt':
        return echo ? promptChunks(event) : promptIdChunks(event)
      case 'delta': {
        const { index, text } = event
        const tokens = logprobs === null ? [] : (event.logprobs ?? [])
        const ids = event.tokenIds?.length ? { token_ids: event.tokenIds } : {}
        return textChunk(index, text, tokens, choices[index]!.offsets.next(tokens), ids)
      }
      case 'choice_finished': {
        const { index, reason, stopReason } = event
        return [chunk(index, '', { finish_reason: reason, stop_reason: stopReason })]
      }
      case 'done':
        return options.stream.includeUsage ? [{ ...head, choices: [], usage: usage.usage() }] : []
      case 'accepted':
      case 'verdict':
      case 'escalated':
      case 'failed':
      case 'cancelled':
        return []
    }
  }

  return {
    collect,
    chunks(event) {
      usage.count(event)
      if (event.kind === 'accepted') attested = attestedFields(event)
      return marked(chunksOf(event))
    },
    body: () => ({
      ...head,
      choices: each(choices, (choice, index) => bodyChoice(choice, index, options)),
      usage: usage.usage(),
      ...attested,
    }),
  }
}

function emptyChoice(): Choice {
  return {
    text: '',
    tokens: [new TokenList(), new TokenList()],
    promptLogprobs: null,
    promptIds: [],
    tokenIds: [],
    offsets: createTextOffsets(),
    finish: undefined,
  }
}

/** A choice of the whole answer. */
function bodyChoice(choice: Choice, index: number, options: CompletionReplyOptions) {
  const { logprobs, promptLogprobs } = options
  return {
    index,
    text: choice.text,
    logprobs: logprobs === null ? null : wholeLogprobs(choice.tokens),
    finish_reason: choice.finish?.reason ?? null,
    stop_reason: choice.finish?.stopReason ?? null,
    ...options.safety.ofChoice(index),
    ...(options.tokenIds ? { prompt_token_ids: choice.promptIds, token_ids: choice.tokenIds } : {}),
    ...(promptLogprobs === null
      ? {}
      : { prompt_logprobs: promptLogprobsField(choice.promptLogprobs, promptLogprobs) }),
  }
}
