// What one choice says: samples its next token, and decides when it ends. The rules, in their order:
//   1. min_tokens: until so many tokens are there, end tokens cannot be sampled, and a stop string that
//      is found counts as text.
//   2. An end token: a stop token id, or the checkpoint's own (eos) unless ignore_eos. It ends whatever
//      its text. As stop_reason the client's rule comes first: its id, a stop string that is the
//      token's text, else null. Text that was held back before it is told; a stop string in that text
//      came earlier, and names the end.
//   3. A stop string that the token completes, where stop strings act (sampling/reply-parser.ts).
//   4. max_tokens, or the end of the context: finish_reason "length". A stop string that only the end
//      of what is held back completes still counts.

import type {
  FinishReason,
  GenerateRequest,
  GenerationEvent,
  TokenLogprob,
  TokenLogprobs,
} from '../contracts/generation.ts'
import type { ReplyPhase } from '../contracts/thought.ts'
import { isHidden } from '../sampling/detokenizer.ts'
import { logprobsOf, type RankedToken } from '../sampling/logprobs.ts'
import { createRandom } from '../sampling/random.ts'
import { createReplyParser, type ReplyPart, type ReplyTokens } from '../sampling/reply-parser.ts'
import { sample } from '../sampling/sampler.ts'

export interface TokenText extends ReplyTokens {
  tokenText(id: number): string
}

export interface OutputOptions {
  readonly request: GenerateRequest
  readonly index: number
  readonly promptTokens: readonly number[]
  readonly tokenizer: TokenText
  readonly eosTokenIds: readonly number[]
  /** Where the prompt leaves the reply, between thought and answer. */
  readonly phase: ReplyPhase
  /** What the request asked for, bounded by what the context leaves. */
  readonly maxTokens: number
}

interface End {
  readonly reason: FinishReason
  readonly stopReason: string | number | null
}

export function createOutput(options: OutputOptions) {
  const { request, index, promptTokens, tokenizer, maxTokens } = options
  const params = request.sampling
  const uniform = createRandom(params.seed + BigInt(index))
  const parser = createReplyParser({
    tokenizer,
    phase: options.phase,
    splits: request.splitReasoning,
    stops: params.stop,
    includeStop: params.includeStopInOutput,
  })
  const promptSet: ReadonlySet<number> =
    params.repetitionPenalty === 1 ? new Set() : new Set(promptTokens)
  const outputCounts = new Map<number, number>()
  const endTokens = new Set([
    ...(params.ignoreEos ? [] : options.eosTokenIds),
    ...params.stopTokenIds,
  ])
  const tokens: number[] = []
  /** Tokens that are not told yet: it is not known of which section they are. */
  let numUntold = 0
  let untoldLogprobs: TokenLogprobs[] | null = request.topLogprobs === null ? null : []
  let reasoningTokens = 0
  let isFinished = false

  function chooseToken(logits: Float32Array, blockMax: Float32Array | null): number {
    return sample({
      logits,
      blockMax,
      params,
      outputCounts,
      promptTokens: promptSet,
      forbidden: tokens.length < params.minTokens ? [...endTokens] : [],
      uniform: () => uniform(tokens.length),
    })
  }

  function logprobs(logits: Float32Array, token: number): TokenLogprobs[] | null {
    if (request.topLogprobs === null) return null
    const { sampled, top } = logprobsOf(logits, token, request.topLogprobs)
    const describe = (ranked: RankedToken) => describeToken(tokenizer, ranked)
    return [{ ...describe(sampled), top: top.map(describe) }]
  }

  /** Text that the token releases, and whether the choice ends with it. */
  function advanceText(token: number): { text: ReplyPart; end: End | null } {
    const isEnd = endTokens.has(token)
    const isStopToken = params.stopTokenIds.includes(token)
    const isIncluded = isStopToken && params.includeStopInOutput
    const isRead = !isEnd || isIncluded || parser.isHidden(token) || parser.isClosing(token)
    const mayStop = tokens.length > params.minTokens
    let text = isRead ? parser.push(token, mayStop && !isStopToken) : nothing
    const isOver = isEnd || tokens.length >= maxTokens
    if (text.stop === null && isOver) text = join(text, parser.finish(mayStop && !isIncluded))
    if (text.stop !== null) return { text, end: { reason: 'stop', stopReason: text.stop } }
    if (isEnd) return { text, end: { reason: 'stop', stopReason: isStopToken ? token : null } }
    return { text, end: isOver ? { reason: 'length', stopReason: null } : null }
  }

  /** What there is to tell: a token is told with its section, as soon as that is known. */
  function toDeltas(text: ReplyPart, isReasoning: boolean): GenerationEvent[] {
    const first = { numTokens: numUntold, logprobs: untoldLogprobs }
    numUntold = 0
    untoldLogprobs = untoldLogprobs && []
    const events: GenerationEvent[] = []
    if (text.reasoning !== '' || isReasoning) {
      events.push({ kind: 'delta', index, section: 'reasoning', text: text.reasoning, ...first })
    }
    if (text.content !== '' || !isReasoning) {
      const counted = events.length > 0 ? { numTokens: 0, logprobs: null } : first
      events.push({ kind: 'delta', index, section: 'content', text: text.content, ...counted })
    }
    return events
  }

  function finish({ reason, stopReason }: End): GenerationEvent {
    isFinished = true
    const usage = { completionTokens: tokens.length, reasoningTokens }
    return { kind: 'choice_finished', index, reason, stopReason, usage }
  }

  return {
    tokens: tokens as readonly number[],
    get isFinished() {
      return isFinished
    },
    /** The end of a choice that may say nothing. */
    finishEmpty(): GenerationEvent {
      return finish({ reason: 'length', stopReason: null })
    },
    /**
     * Samples the next token from its logits [vocab] and returns what there is to tell. `blockMax`:
     * the largest of each block of them, where that is known.
     */
    accept(logits: Float32Array, blockMax: Float32Array | null = null): GenerationEvent[] {
      const token = chooseToken(logits, blockMax)
      const before = parser.section
      numUntold++
      untoldLogprobs?.push(...(logprobs(logits, token) ?? []))
      tokens.push(token)
      outputCounts.set(token, (outputCounts.get(token) ?? 0) + 1)
      const { text, end } = advanceText(token)
      if (parser.section === 'undecided') return []
      const isReasoning =
        before === 'reasoning' ||
        parser.section === 'reasoning' ||
        (before === 'undecided' && parser.hasThought)
      if (isReasoning) reasoningTokens += numUntold
      const events = toDeltas(text, isReasoning)
      if (end !== null) events.push(finish(end))
      return events
    },
  }
}

function describeToken(tokenizer: TokenText, { id, logprob }: RankedToken): TokenLogprob {
  const text = { id, token: tokenizer.tokenText(id), bytes: [...tokenizer.tokenBytes(id)], logprob }
  return isHidden(tokenizer, id) ? { ...text, hidden: true } : text
}

const nothing: ReplyPart = { reasoning: '', content: '', stop: null }

function join(first: ReplyPart, second: ReplyPart): ReplyPart {
  return {
    reasoning: first.reasoning + second.reasoning,
    content: first.content + second.content,
    stop: second.stop,
  }
}
