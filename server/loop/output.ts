// What one choice says: samples its next token, and decides when it ends. The rules, in their order:
//   0. A grammar acts on the answer, from its first token: only its tokens can be sampled, and end
//      tokens where it may end. Where nothing else may come, min_tokens gives way.
//   1. min_tokens: until so many tokens are there, end tokens cannot be sampled, and a stop string that
//      is found counts as text.
//   2. An end token: a stop token id, or the checkpoint's own (eos) unless ignore_eos. It ends whatever
//      its text. As stop_reason the client's rule comes first: its id, a stop string that is the
//      token's text, else null. Text that was held back before it is told; a stop string in that text
//      came earlier, and names the end.
//   3. A stop string that the token completes, where stop strings act (sampling/reply-parser.ts).
//   4. max_tokens, or the end of the context: finish_reason "length". A stop string that only the end
//      of what is held back completes still counts.

import type { AnswerGrammar, GrammarWalk } from '../contracts/constraint.ts'
import type {
  FinishReason,
  GenerateRequest,
  GenerationEvent,
  TokenLogprob,
  TokenLogprobs,
} from '../contracts/generation.ts'
import type { ReplyPhase } from '../contracts/thought.ts'
import { type Choose, chooseConstrained } from '../sampling/constrained-token.ts'
import { isHidden } from '../sampling/detokenizer.ts'
import { createForbiddenTokens } from '../sampling/forbidden-tokens.ts'
import { logprobsOf, type RankedToken, type SampledToken } from '../sampling/logprobs.ts'
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
  /** The tokens of what must not be said, in each of its spellings. */
  readonly badWords?: readonly (readonly number[])[]
  /** Absent: nothing constrains the answer. */
  readonly grammar?: AnswerGrammar | null
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
    showsSpecials: !params.skipSpecialTokens,
    isConstrained: options.grammar != null,
  })
  const walk = options.grammar?.start() ?? null
  const promptSet: ReadonlySet<number> =
    params.repetitionPenalty === 1 ? new Set() : new Set(promptTokens)
  const outputCounts = new Map<number, number>()
  const endTokens = new Set([
    ...(params.ignoreEos ? [] : options.eosTokenIds),
    ...params.stopTokenIds,
  ])
  const ends = [...endTokens]
  const forbidden = createForbiddenTokens(params, ends, options.badWords ?? [])
  const tokens: number[] = []
  const untold = createUntold(request, index)
  /** Of every token, where the reply may be said again. */
  const tokenLogprobs: TokenLogprobs[] = []
  let reasoningTokens = 0
  /** Tokens that are no part of what is said: the one that ended it, where its text is not shown. */
  let numSilent = 0
  let isFinished = false

  /** Null: a grammar is at its end, and no token would say so. */
  function chooseToken(logits: Float32Array, blockMax: Float32Array | null): number | null {
    const never = forbidden.next(tokens)
    const input = { logits, blockMax, params, outputCounts, promptTokens: promptSet }
    const choose: Choose = (more) =>
      sample({ ...input, forbidden: never, uniform: () => uniform(tokens.length), ...more })
    if (walk === null) return choose({})
    const isFirst = tokens.length === 0
    return chooseConstrained(choose, { parser, walk, ends, forbidden: never, isFirst })
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
    const isShown = isIncluded
      ? !parser.isHidden(token)
      : text.stop !== null && params.includeStopInOutput
    if (isEnd && !isShown) numSilent = 1
    if (text.stop !== null) return { text, end: { reason: 'stop', stopReason: text.stop } }
    if (isEnd) {
      const named = isRead ? null : stopSpelledBy(tokenizer, params.stop, token)
      return { text, end: { reason: 'stop', stopReason: isStopToken ? token : named } }
    }
    return { text, end: isOver ? { reason: 'length', stopReason: null } : null }
  }

  function finish({ reason, stopReason }: End): GenerationEvent {
    isFinished = true
    const usage = { completionTokens: tokens.length, reasoningTokens }
    return { kind: 'choice_finished', index, reason, stopReason, usage }
  }

  /** The answer is all that its grammar allows. */
  function finishWhole(): GenerationEvent[] {
    const text = parser.finish()
    return [...untold.tell(text, false, tokens), finish({ reason: 'stop', stopReason: text.stop })]
  }

  /** Takes the next token; returns what there is to tell. */
  function take(token: number, logprobs: TokenLogprobs | null): GenerationEvent[] {
    const before = parser.section
    untold.add(logprobs)
    if (logprobs !== null && request.safety?.reply === 'escalate') tokenLogprobs.push(logprobs)
    tokens.push(token)
    outputCounts.set(token, (outputCounts.get(token) ?? 0) + 1)
    const isThought = before === 'reasoning' || token === parser.opening
    const { text, end } = advanceText(token)
    if (end === null && !isThought) walk?.accept(token)
    if (parser.section === 'undecided') return []
    const isReasoning =
      before === 'reasoning' ||
      parser.section === 'reasoning' ||
      (before === 'undecided' && parser.hasThought)
    if (isReasoning) reasoningTokens += untold.count
    const events = untold.tell(text, isReasoning, tokens)
    if (end !== null) events.push(finish(end))
    return events
  }

  return {
    tokens: tokens as readonly number[],
    /** Of each token, where the reply may be said again; else none. */
    logprobs: tokenLogprobs as readonly TokenLogprobs[],
    get isFinished() {
      return isFinished
    },
    /** Where the reply stands. */
    get section() {
      return parser.section
    },
    /** The reply itself opened or closed a thought. */
    get hasThought() {
      return parser.hasThought
    },
    /** Tokens that have text, hidden ones between them too. */
    get numSaid() {
      return tokens.length - numSilent
    },
    take,
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
      if (token === null) return finishWhole()
      return take(token, logprobsOfToken(options, logits, token))
    },
    /** The grammar that the next token has to keep to; null: none does. */
    get walk(): GrammarWalk | null {
      return isFinished || parser.section === 'reasoning' ? null : walk
    },
    /** Takes the next token where another engine samples. */
    acceptSampled({ id, logprobs }: SampledToken): GenerationEvent[] {
      return take(id, logprobs && describeLogprobs(options, logprobs))
    },
  }
}

/** Tokens that are not told yet: it is not known of which section they are. */
function createUntold({ topLogprobs, returnTokenIds }: GenerateRequest, index: number) {
  let count = 0
  let logprobs: TokenLogprobs[] | null = topLogprobs === null ? null : []

  return {
    get count() {
      return count
    },
    add(ofToken: TokenLogprobs | null): void {
      count++
      if (ofToken !== null) logprobs?.push(ofToken)
    },
    /** What there is to tell: a token is told with its section, as soon as that is known. */
    tell(text: ReplyPart, isReasoning: boolean, tokens: readonly number[]): GenerationEvent[] {
      const ids = returnTokenIds ? { tokenIds: tokens.slice(tokens.length - count) } : {}
      const first = { numTokens: count, logprobs, ...ids }
      count = 0
      logprobs = logprobs && []
      const events: GenerationEvent[] = []
      if (text.reasoning !== '' || isReasoning) {
        events.push({ kind: 'delta', index, section: 'reasoning', text: text.reasoning, ...first })
      }
      if (text.content !== '' || !isReasoning) {
        const counted = events.length > 0 ? { numTokens: 0, logprobs: null } : first
        events.push({ kind: 'delta', index, section: 'content', text: text.content, ...counted })
      }
      return events
    },
  }
}

/** The stop string that is the token's own text, which is not read. */
function stopSpelledBy(
  tokenizer: TokenText,
  stops: readonly string[],
  token: number,
): string | null {
  const text = stops.length === 0 ? '' : tokenizer.tokenText(token)
  return stops.includes(text) ? text : null
}

function logprobsOfToken(
  options: OutputOptions,
  logits: Float32Array,
  token: number,
): TokenLogprobs | null {
  const { topLogprobs, logprobTokens } = options.request
  if (topLogprobs === null) return null
  return describeLogprobs(options, logprobsOf(logits, token, topLogprobs, logprobTokens))
}

function describeLogprobs(
  { request, tokenizer }: OutputOptions,
  { sampled, top }: NonNullable<SampledToken['logprobs']>,
): TokenLogprobs {
  const describe = (ranked: RankedToken) =>
    describeToken(tokenizer, ranked, !request.sampling.skipSpecialTokens)
  return { ...describe(sampled), top: top.map(describe) }
}

function describeToken(
  tokenizer: TokenText,
  { id, logprob }: RankedToken,
  showsSpecials: boolean,
): TokenLogprob {
  const text = { id, token: tokenizer.tokenText(id), bytes: [...tokenizer.tokenBytes(id)], logprob }
  return isHidden(tokenizer, id, showsSpecials) ? { ...text, hidden: true } : text
}

const nothing: ReplyPart = { reasoning: '', content: '', stop: null }

function join(first: ReplyPart, second: ReplyPart): ReplyPart {
  return {
    reasoning: first.reasoning + second.reasoning,
    content: first.content + second.content,
    stop: second.stop,
  }
}
