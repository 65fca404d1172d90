// One choice of a request: its tokens, its text, and when it ends. Pure but for its own state.

import type { ScaledComponent } from '../contracts/adapter.ts'
import type {
  FinishReason,
  GenerateRequest,
  GenerationEvent,
  PromptTokenLogprobs,
  TokenLogprob,
  TokenLogprobs,
} from '../contracts/generation.ts'
import { createDetokenizer, type TokenBytes } from '../sampling/detokenizer.ts'
import { logprobsOf, type RankedToken } from '../sampling/logprobs.ts'
import { createRandom } from '../sampling/random.ts'
import { sample } from '../sampling/sampler.ts'
import { createReasoningSplitter, createStopMatcher, type SplitText } from '../sampling/stop.ts'
import type { PrefixPosition } from './prefix-cache.ts'

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
  /** Shown again where the request wants its prompt echoed. */
  readonly promptText: string
  /** What the request asked for, bounded by what the context leaves. */
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
  /** Choices share a prompt: the first one tells of it. */
  const tellsOfPrompt = index === 0 && (request.echo || request.promptLogprobs !== null)
  const promptLogprobs: PromptTokenLogprobs[] = []
  let reasoningTokens = 0
  let isFinished = false

  function chooseToken(logits: Float32Array, blockMax: Float32Array | null): number {
    return sample({
      logits,
      blockMax,
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

  function promptLogprob(position: number, logits: Float32Array | null): PromptTokenLogprobs {
    const id = promptTokens[position] as number
    if (logits === null) {
      return { ...describe({ id, logprob: 0 }), logprob: null, rank: null, top: [] }
    }
    const { sampled, rank, top } = logprobsOf(logits, id, request.promptLogprobs ?? 0)
    return { ...describe(sampled), rank, top: top.map(describe) }
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
    maxTokens,
    /** Tokens whose keys and values were taken over instead of computed, when it first ran. */
    numCachedTokens: 0,
    /** The same since it last got a row. */
    numReused: 0,
    /** Tokens whose keys and values are in the cache. */
    numComputed: 0,
    /** How often it had to give its row up. */
    numPreempted: 0,
    /** How much of it the prefix cache has; null when it keeps no more of it. */
    saved: undefined as PrefixPosition | null | undefined,
    /** Prompt and generated tokens. */
    get numTokens() {
      return promptTokens.length + generated.length
    },
    tokenAt(position: number): number {
      const token = promptTokens[position] ?? generated[position - promptTokens.length]
      if (token === undefined) throw new RangeError(`there is no token ${position}`)
      return token
    },
    /** Tokens [from, to), prompt and generated. */
    tokens(from: number, to: number): number[] {
      const beforeOutput = promptTokens.slice(from, to)
      const start = Math.max(0, from - promptTokens.length)
      return [...beforeOutput, ...generated.slice(start, Math.max(0, to - promptTokens.length))]
    },
    /** The log-probability of each token of the prompt is wanted: all of it must be computed. */
    get needsPromptLogits() {
      return index === 0 && request.promptLogprobs !== null && generated.length === 0
    },
    /** It has tokens behind those in the cache: it gave its row up and is on its way back. */
    get isRecomputing() {
      return generated.length > 0 && this.numComputed < this.numTokens
    },
    /** Gives its row up. The tokens it has stay, and are computed again, as they were before. */
    restart(): void {
      this.numComputed = 0
      this.numReused = 0
      this.saved = undefined
      this.numPreempted++
    },
    get isFinished() {
      return isFinished
    },
    /** Takes the logits after the prompt's token at `position`, which foretell the next. */
    acceptPromptLogits(position: number, logits: Float32Array): void {
      if (position === 0) promptLogprobs.splice(0, Infinity, promptLogprob(0, null))
      if (position + 1 < promptTokens.length) {
        promptLogprobs.push(promptLogprob(position + 1, logits))
      }
    },
    /** What there is to tell once the prompt is computed. */
    finishPrompt(): GenerationEvent[] {
      const events: GenerationEvent[] = []
      if (tellsOfPrompt) {
        const logprobs = request.promptLogprobs === null ? null : promptLogprobs
        events.push({ kind: 'prompt', index, text: options.promptText, logprobs })
      }
      if (maxTokens > 0) return events
      isFinished = true
      const usage = { completionTokens: 0, reasoningTokens: 0 }
      const end = { kind: 'choice_finished', reason: 'length', stopReason: null } as const
      return [...events, { ...end, index, usage }]
    },
    /**
     * Samples the next token from its logits [vocab] and returns what there is to tell. `blockMax`:
     * the largest of each block of them, where that is known.
     */
    accept(logits: Float32Array, blockMax: Float32Array | null = null): GenerationEvent[] {
      const token = chooseToken(logits, blockMax)
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
