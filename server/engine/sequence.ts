// One choice of a request: its tokens, its text, and when it ends. Pure but for its own state.

import type { ScaledComponent } from '../contracts/adapter.ts'
import type {
  FinishReason,
  GenerateRequest,
  GenerationEvent,
  TokenLogprob,
  TokenLogprobs,
} from '../contracts/generation.ts'
import { createDetokenizer, type TokenBytes } from './detokenizer.ts'
import { logprobsOf, type RankedToken } from './logprobs.ts'
import { createRandom } from './random.ts'
import { sample } from './sampler.ts'
import { createReasoningSplitter, createStopMatcher, type SplitText } from './stop.ts'

export interface TokenText extends TokenBytes {
  tokenText(id: number): string
}

export interface SequenceOptions {
  readonly request: GenerateRequest
  readonly index: number
  readonly promptTokens: readonly number[]
  readonly components: readonly ScaledComponent[]
  /** Sequences of one key compute the same keys and values for the same tokens. */
  readonly cacheKey: string
  readonly tokenizer: TokenText
  readonly eosTokenIds: readonly number[]
  readonly startsInReasoning: boolean
  /** What the request asked for, bounded by what the context leaves; at least 1. */
  readonly maxTokens: number
}

export type Sequence = ReturnType<typeof createSequence>

interface End {
  readonly reason: FinishReason
  readonly stopReason: string | number | null
}

export function createSequence(options: SequenceOptions) {
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
  const generated: number[] = []
  let reasoningTokens = 0
  let isFinished = false

  function chooseToken(logits: Float32Array): number {
    return sample({
      logits,
      params,
      outputCounts,
      promptTokens: promptSet,
      forbidden: generated.length < params.minTokens ? [...endTokens] : [],
      uniform: () => uniform(generated.length),
    })
  }

  function describe({ id, logprob }: RankedToken): TokenLogprob {
    return { id, token: tokenizer.tokenText(id), bytes: [...tokenizer.tokenBytes(id)], logprob }
  }

  function logprobs(logits: Float32Array, token: number): TokenLogprobs[] | null {
    if (request.topLogprobs === null) return null
    const { sampled, top } = logprobsOf(logits, token, request.topLogprobs)
    return [{ ...describe(sampled), top: top.map(describe) }]
  }

  /** Text that the token releases, and whether the sequence ends with it. */
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
    if (generated.length < maxTokens) return { text: split, end: null }
    return { text: join(split, flushText('')), end: { reason: 'length', stopReason: null } }
  }

  /** Everything still held back; a stop string may yet be complete in it. */
  function flushText(last: string): SplitText {
    const { text, stop } = stops.push(last + detokenizer.flush())
    const rest = stop === null ? text + stops.flush() : text
    return join(splitter.push(rest), splitter.flush())
  }

  return {
    request,
    index,
    promptTokens,
    components: options.components,
    cacheKey: options.cacheKey,
    /** Tokens whose keys and values were taken over instead of computed. */
    numCached: 0,
    /** Tokens whose keys and values are in the cache. */
    numComputed: 0,
    get isFinished() {
      return isFinished
    },
    /** Prompt and generated tokens whose keys and values are in the cache. */
    computedTokens(): number[] {
      return [...promptTokens, ...generated].slice(0, this.numComputed)
    },
    get lastToken() {
      return generated.at(-1)
    },
    /** Samples the next token from its logits [vocab] and returns what there is to tell. */
    accept(logits: Float32Array): GenerationEvent[] {
      const token = chooseToken(logits)
      const wasReasoning = splitter.inReasoning
      const tokenLogprobs = logprobs(logits, token)
      generated.push(token)
      outputCounts.set(token, (outputCounts.get(token) ?? 0) + 1)
      const { text, end } = advanceText(token)
      if (wasReasoning) reasoningTokens++

      const events: GenerationEvent[] = []
      if (text.reasoning !== '' || wasReasoning) {
        events.push({
          kind: 'delta',
          index,
          section: 'reasoning',
          text: text.reasoning,
          numTokens: 1,
          logprobs: tokenLogprobs,
        })
      }
      if (text.content !== '' || !wasReasoning) {
        const counted = events.length > 0
        events.push({
          kind: 'delta',
          index,
          section: 'content',
          text: text.content,
          numTokens: counted ? 0 : 1,
          logprobs: counted ? null : tokenLogprobs,
        })
      }
      if (end !== null) {
        isFinished = true
        const usage = { completionTokens: generated.length, reasoningTokens }
        events.push({ kind: 'choice_finished', index, ...end, usage })
      }
      return events
    },
  }
}

function join(first: SplitText, second: SplitText): SplitText {
  return {
    reasoning: first.reasoning + second.reasoning,
    content: first.content + second.content,
  }
}
