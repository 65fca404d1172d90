// What one choice says: samples its next token, turns tokens into text, and decides when it ends.

import type {
  FinishReason,
  GenerateRequest,
  GenerationEvent,
  TokenLogprob,
  TokenLogprobs,
} from '../contracts/generation.ts'
import { createDetokenizer, isHidden, type TokenBytes } from '../sampling/detokenizer.ts'
import { logprobsOf, type RankedToken } from '../sampling/logprobs.ts'
import { createRandom } from '../sampling/random.ts'
import { sample } from '../sampling/sampler.ts'
import { createReasoningSplitter, createStopMatcher, type SplitText } from '../sampling/stop.ts'

export interface TokenText extends TokenBytes {
  tokenText(id: number): string
}

export interface OutputOptions {
  readonly request: GenerateRequest
  readonly index: number
  readonly promptTokens: readonly number[]
  readonly tokenizer: TokenText
  readonly eosTokenIds: readonly number[]
  readonly startsInReasoning: boolean
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
  const detokenizer = createDetokenizer(tokenizer)
  const stops = createStopMatcher(params.stop, params.includeStopInOutput)
  const splitter = createReasoningSplitter(request.splitReasoning && options.startsInReasoning)
  const promptSet: ReadonlySet<number> =
    params.repetitionPenalty === 1 ? new Set() : new Set(promptTokens)
  const outputCounts = new Map<number, number>()
  const endTokens = new Set([
    ...(params.ignoreEos ? [] : options.eosTokenIds),
    ...params.stopTokenIds,
  ])
  const tokens: number[] = []
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
  function advanceText(token: number): { text: SplitText; end: End | null } {
    if (endTokens.has(token)) {
      const isStopToken = params.stopTokenIds.includes(token)
      const included = params.includeStopInOutput && isStopToken ? detokenizer.push(token) : ''
      const stopReason = isStopToken ? token : null
      return { text: flushText(included), end: { reason: 'stop', stopReason } }
    }
    const { text, stop } = stops.push(detokenizer.push(token))
    if (stop !== null) {
      return {
        text: join(splitter.push(text), splitter.flush()),
        end: { reason: 'stop', stopReason: stop },
      }
    }
    const split = splitter.push(text)
    if (tokens.length < maxTokens) return { text: split, end: null }
    return { text: join(split, flushText('')), end: { reason: 'length', stopReason: null } }
  }

  /** Everything still held back; a stop string may yet be complete in it. */
  function flushText(last: string): SplitText {
    const { text, stop } = stops.push(last + detokenizer.flush())
    const rest = stop === null ? text + stops.flush() : text
    return join(splitter.push(rest), splitter.flush())
  }

  /** One token's text: the token is counted with the section in which it came. */
  function toDeltas(
    text: SplitText,
    wasReasoning: boolean,
    logprobs: TokenLogprobs[] | null,
  ): GenerationEvent[] {
    const first = { numTokens: 1, logprobs }
    const events: GenerationEvent[] = []
    if (text.reasoning !== '' || wasReasoning) {
      events.push({ kind: 'delta', index, section: 'reasoning', text: text.reasoning, ...first })
    }
    if (text.content !== '' || !wasReasoning) {
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
      const wasReasoning = splitter.inReasoning
      const tokenLogprobs = logprobs(logits, token)
      tokens.push(token)
      outputCounts.set(token, (outputCounts.get(token) ?? 0) + 1)
      const { text, end } = advanceText(token)
      if (wasReasoning) reasoningTokens++
      const events = toDeltas(text, wasReasoning, tokenLogprobs)
      if (end !== null) events.push(finish(end))
      return events
    },
  }
}

export function describeToken(tokenizer: TokenText, { id, logprob }: RankedToken): TokenLogprob {
  const text = { id, token: tokenizer.tokenText(id), bytes: [...tokenizer.tokenBytes(id)], logprob }
  return isHidden(tokenizer, id) ? { ...text, hidden: true } : text
}

function join(first: SplitText, second: SplitText): SplitText {
  return {
    reasoning: first.reasoning + second.reasoning,
    content: first.content + second.content,
  }
}
