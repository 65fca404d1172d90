// The answer of POST /v1/chat/completions. The thought is `reasoning` and `reasoning_content` (see
// --reasoning-field), the answer is `content`: "" where a thought was cut and no answer came.

import type { FinishReason, GenerationEvent, TokenLogprobs } from '../../contracts/generation.ts'
import type { PromptLogprobs } from '../../contracts/prompt-logprobs.ts'
import type { ReasoningField } from '../../contracts/thought.ts'
import {
  createToolReader,
  type ReplyPiece,
  type ToolReader,
  type ToolReading,
} from '../../tool-calls/tool-reader.ts'
import { type Attested, attestedFields } from './applied-adapters.ts'
import { callId } from './call-id.ts'
import { each } from './lazy-list.ts'
import { promptLogprobsField } from './prompt-logprobs.ts'
import { toRaw } from './raw-json.ts'
import { createChunkUsage, type Reply, type ReplyHead } from './reply.ts'

export interface ChatReplyOptions extends ReplyHead {
  readonly reasoningField: ReasoningField
  readonly logprobs: boolean
  /** Alternatives for each token of the prompt; null: nothing of the prompt. */
  readonly promptLogprobs: number | null
  readonly tokenIds: boolean
  /** How calls of tools are read; null: there are none. */
  readonly tools: ToolReading | null
}

interface Choice {
  readonly reader: ToolReader
  calls: { name: string; arguments: string }[]
  reasoning: string
  content: string
  /** JSON of each token. */
  logprobs: string[]
  tokenIds: number[]
  finish: { reason: FinishReason; stopReason: string | number | null } | undefined
}

type Delta = Extract<GenerationEvent, { kind: 'delta' }>
type Finished = Extract<GenerationEvent, { kind: 'choice_finished' }>

export function createChatReply(options: ChatReplyOptions): Reply {
  const { id, created, model, n, logprobs } = options
  const usage = createChunkUsage(options.stream)
  const choices = Array.from({ length: n }, () => emptyChoice(options.tools))
  let attested: Attested = { adapter: [] }
  let promptLogprobs: PromptLogprobs | null = null
  let promptIds: readonly number[] = []
  /** The prompt's ids, until a chunk has told them. */
  let untoldIds: { prompt_token_ids?: readonly number[] } = {}

  function isHidden(delta: Delta) {
    return delta.section === 'reasoning' && options.reasoningField === 'none'
  }

  function collect(event: GenerationEvent): void {
    usage.count(event)
    if (event.kind === 'accepted') attested = attestedFields(event)
    if (event.kind === 'prompt') {
      promptLogprobs = event.logprobs
      promptIds = event.tokenIds ?? []
    }
    if (event.kind === 'choice_finished') {
      const { reason, stopReason } = event
      const choice = choices[event.index]!
      choice.finish = { reason, stopReason }
      for (const piece of choice.reader.finish()) keep(choice, piece)
    }
    if (event.kind !== 'delta') return
    const choice = choices[event.index]!
    if (event.section === 'reasoning') choice.reasoning += event.text
    else for (const piece of choice.reader.push(event.text)) keep(choice, piece)
    if (isHidden(event)) return
    choice.tokenIds.push(...(event.tokenIds ?? []))
    if (!logprobs) return
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
      ...takeUntoldIds(),
    }
  }

  function takeUntoldIds() {
    const ids = untoldIds
    untoldIds = {}
    return ids
  }

  /** What the pieces of an answer are as deltas; one without text where there are none. */
  function pieceDeltas(pieces: readonly ReplyPiece[], index: number): object[] {
    if (pieces.length === 0) return [{ content: '' }]
    return pieces.map((piece) => pieceDelta(piece, id, index))
  }

  function deltaChunks(event: Delta): object[] {
    const pieces = event.section === 'content' ? choices[event.index]!.reader.push(event.text) : []
    const [shown, ...more] =
      event.section === 'content'
        ? pieceDeltas(pieces, event.index)
        : [thought(event.text, options.reasoningField)]
    const ids = event.tokenIds?.length ? { token_ids: event.tokenIds } : {}
    const shownLogprobs = logprobs && event.logprobs
    const tokens = { ...(shownLogprobs ? { logprobs: chatLogprobs(shownLogprobs) } : {}), ...ids }
    const isSilent = event.section === 'content' ? pieces.length === 0 : event.text === ''
    const isEmpty = isSilent && !(logprobs && event.logprobs?.length) && !event.tokenIds
    if (isHidden(event) || isEmpty) return []
    const first = chunk(event.index, shown!, tokens)
    return [first, ...more.map((delta) => chunk(event.index, delta))]
  }

  function finishChunks({ index, reason, stopReason }: Finished): object[] {
    const { reader } = choices[index]!
    const rest = reader.finish().map((piece) => chunk(index, pieceDelta(piece, id, index)))
    const finish_reason = finishReason(reason, reader.numCalls)
    return [...rest, chunk(index, {}, { finish_reason, stop_reason: stopReason })]
  }

  return {
    collect,
    chunks(event) {
      usage.count(event)
      if (event.kind === 'accepted') attested = attestedFields(event)
      switch (event.kind) {
        case 'accepted':
          // The role comes once for each choice, the adapter once for the stream.
          return choices.map((_, index) => {
            const first = chunk(index, { role: 'assistant', content: '' })
            return index === 0 ? { ...first, ...attested } : first
          })
        case 'delta':
          return deltaChunks(event)
        case 'choice_finished':
          return finishChunks(event)
        case 'done':
          return options.stream.includeUsage
            ? [{ ...chunk(0, {}), choices: [], usage: usage.usage() }]
            : []
        case 'prompt':
          if (event.tokenIds) untoldIds = { prompt_token_ids: event.tokenIds }
          return []
        case 'verdict':
        case 'escalated':
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
      ...(options.tokenIds ? { prompt_token_ids: promptIds } : {}),
      ...attested,
    }),
  }
}

function emptyChoice(tools: ToolReading | null): Choice {
  return {
    reader: createToolReader(tools),
    calls: [],
    reasoning: '',
    content: '',
    logprobs: [],
    tokenIds: [],
    finish: undefined,
  }
}

function keep(choice: Choice, piece: ReplyPiece): void {
  if (piece.kind === 'text') choice.content += piece.text
  else if (piece.kind === 'call') choice.calls.push({ name: piece.name, arguments: '' })
  else choice.calls.at(-1)!.arguments += piece.text
}

function pieceDelta(piece: ReplyPiece, id: string, choice: number): object {
  if (piece.kind === 'text') return { content: piece.text }
  const { call: index } = piece
  if (piece.kind === 'arguments') {
    return { tool_calls: [{ index, function: { arguments: piece.text } }] }
  }
  const { name } = piece
  const call = {
    id: callId(id, index, choice),
    type: 'function',
    function: { name, arguments: '' },
  }
  return { tool_calls: [{ index, ...call }] }
}

function finishReason(reason: FinishReason, numCalls: number): FinishReason | 'tool_calls' {
  return reason === 'stop' && numCalls > 0 ? 'tool_calls' : reason
}

/** A choice of the whole answer. */
function bodyChoice(choice: Choice, index: number, options: ChatReplyOptions) {
  const { reasoning, content, finish, calls } = choice
  const called = calls.map((call, i) => ({
    id: callId(options.id, i, index),
    type: 'function',
    function: call,
  }))
  return {
    index,
    message: {
      role: 'assistant',
      content: content === '' && calls.length > 0 ? null : content,
      refusal: null,
      ...thought(reasoning === '' ? null : reasoning, options.reasoningField),
      ...(calls.length === 0 ? {} : { tool_calls: called }),
    },
    logprobs: options.logprobs ? { content: each(choice.logprobs, toRaw), refusal: null } : null,
    finish_reason: finish ? finishReason(finish.reason, calls.length) : null,
    stop_reason: finish?.stopReason ?? null,
    ...(options.tokenIds ? { token_ids: choice.tokenIds } : {}),
    ...options.safety.ofChoice(index),
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
