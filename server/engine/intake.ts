// Takes requests in: has the prompt encoded, checks that it fits the context, loads the adapters, and hands
// the choices to the loop. A request that never reaches the loop gets its one terminal event here.

import type { AdapterStore } from '../adapters/store.ts'
import type { AppliedAdapter, HeldAdapter } from '../contracts/adapter.ts'
import type { AnswerGrammar } from '../contracts/constraint.ts'
import type { Asked, TokenizeInput, TokenizeResult } from '../contracts/engine.ts'
import type { GenerateRequest, GenerationEvent } from '../contracts/generation.ts'
import type { AppliedGuard } from '../contracts/safety.ts'
import { type ReplyPhase, thoughtStart } from '../contracts/thought.ts'
import { ServerError } from '../errors.ts'
import type { Loop } from '../loop/loop.ts'
import { arrangeAdapters, mergedShares, type RequestAdapters } from '../loop/segments.ts'
import { createSequence, type Sequence } from '../loop/sequence.ts'
import type { LoadedGuard } from '../safety/guard.ts'
import type { TokenTexts } from '../tokenizer/token-texts.ts'
import { createCallAdapters, escalationOf } from './call-adapters.ts'
import type { Grammars } from './grammars.ts'
import type { TextThreads } from './text-threads.ts'
import { requireRows } from './token-ids.ts'

export interface IntakeOptions {
  readonly tokenizer: Pick<
    TokenTexts,
    'decode' | 'tokenText' | 'tokenBytes' | 'isSpecial' | 'specialTexts' | 'idOf'
  >
  readonly texts: Pick<TextThreads, 'run'>
  readonly store: Pick<AdapterStore, 'acquire'>
  readonly grammars: Pick<Grammars, 'open'>
  readonly loop: Pick<Loop, 'submit' | 'cancel'>
  /** Who judges; null: nobody. The loop has the same. */
  readonly guard: LoadedGuard | null
  /** Adapters that the weights hold; none by default. */
  readonly merged?: readonly HeldAdapter[]
  /** Longest prompt and answer together, in tokens. */
  readonly maxContext: number
  /** Rows of the embedding; the tokenizer may know more ids. */
  readonly vocabSize: number
  readonly eosTokenIds: readonly number[]
  /** Throws where this engine cannot do what the request asks; by default it does all. */
  readonly refuse?: (request: GenerateRequest) => void
  readonly publish: (events: ReadonlyArray<readonly [string, GenerationEvent]>) => void
  /** Called after each request that the loop has taken. */
  readonly onSubmitted: () => void
}

export interface Intake {
  /** Every request ends in exactly one terminal event, from here or from the loop. */
  submit(request: GenerateRequest): Promise<void>
  /** Unknown ids are ignored. */
  cancel(id: string): void
  tokenize(asked: Asked<TokenizeInput>): Promise<TokenizeResult>
  detokenize(asked: Asked<readonly number[]>): Promise<string>
}

interface EncodedPrompt {
  readonly tokens: readonly number[]
  /** Where the prompt leaves the reply. */
  readonly phase: ReplyPhase
}

export function createIntake(options: IntakeOptions): Intake {
  const { tokenizer, texts, loop, guard, maxContext, eosTokenIds, merged = [] } = options
  const adapters = createCallAdapters(options.store)
  /** Requests whose prompt is encoded or whose adapters are loaded; aborted when they are cancelled. */
  const preparing = new Map<string, AbortController>()

  function publish(id: string, event: GenerationEvent): void {
    options.publish([[id, event]])
  }

  async function encodePrompt(
    { prompt, turn, truncatePrompt }: GenerateRequest,
    signal: AbortSignal,
  ): Promise<EncodedPrompt> {
    const last = truncatePrompt ?? Number.POSITIVE_INFINITY
    if (prompt.kind === 'tokens') return { tokens: lastOf(prompt.tokens, last), phase: 'answering' }
    const most = truncatePrompt === null ? maxContext : Number.POSITIVE_INFINITY
    const encoded = await texts.run({ kind: 'encode', prompt, maxContext: most }, turn, signal)
    return { phase: encoded.phase, tokens: lastOf(Array.from(encoded.tokens), last) }
  }

  async function encodeBadWords(
    { sampling, turn }: GenerateRequest,
    signal: AbortSignal,
  ): Promise<readonly (readonly number[])[]> {
    const words = sampling.badWords
    return words.length === 0 ? [] : (await texts.run({ kind: 'words', words }, turn, signal)).words
  }

  async function openGrammar(
    { constraint, constraintField: field, turn, splitReasoning }: GenerateRequest,
    phase: ReplyPhase,
    signal: AbortSignal,
  ): Promise<AnswerGrammar | null> {
    if (constraint === null) return null
    const mayOpen = phase === 'beginning' && tokenizer.idOf(thoughtStart) !== undefined
    const mayThink = splitReasoning && (mayOpen || phase === 'opened' || phase === 'thinking')
    const grammar = await options.grammars.open(constraint, { turn, field, mayThink }, signal)
    signal.throwIfAborted()
    return grammar
  }

  /** The prompt to echo: as the client wrote it, where it wrote text. */
  function textOf({ prompt, truncatePrompt }: GenerateRequest, tokens: readonly number[]): string {
    const isWhole = prompt.kind === 'text' && truncatePrompt === null
    return isWhole ? prompt.text : tokenizer.decode(tokens)
  }

  function guardOf(
    { safety }: GenerateRequest,
    applied: readonly AppliedAdapter[],
  ): AppliedGuard | null {
    if (guard === null || safety === null) return null
    if (safety.input === 'off' && safety.reply === 'off') return null
    const part = safety.reply === 'off' ? 'input' : 'output'
    const certifies = (of: readonly AppliedAdapter[]) => guard.calibrationOf(of, part).certified
    return { ...guard.info, certified: certifies(applied) || (guard.isExact && certifies([])) }
  }

  function createChoices(
    request: GenerateRequest,
    { tokens, phase }: EncodedPrompt,
    maxTokens: number,
    adapters: RequestAdapters,
    badWords: readonly (readonly number[])[],
    grammar: AnswerGrammar | null,
  ): Sequence[] {
    const promptText = request.echo ? textOf(request, tokens) : ''
    return Array.from({ length: request.n }, (_, index) =>
      createSequence({
        request,
        index,
        promptTokens: tokens,
        promptText,
        adapters,
        guard,
        maxPositions: maxContext,
        tokenizer,
        eosTokenIds,
        phase,
        maxTokens,
        badWords,
        grammar,
      }),
    )
  }

  /** Rejects where the loop has not taken the request. */
  async function prepare(request: GenerateRequest, signal: AbortSignal): Promise<void> {
    options.refuse?.(request)
    const prompt = await encodePrompt(request, signal)
    const badWords = await encodeBadWords(request, signal)
    signal.throwIfAborted()
    requireRows(prompt.tokens, options.vocabSize, tokenizer.tokenText)
    const promptTokens = prompt.tokens.length
    const param = request.prompt.kind === 'messages' ? 'messages' : 'prompt'
    const maxTokens = boundTokens(promptTokens, request.maxTokens, maxContext, param)
    if (request.safety !== null && guard === null) refuseUnjudged()
    const grammar = await openGrammar(request, prompt.phase, signal)
    const held = await adapters.acquire(request, signal)
    try {
      signal.throwIfAborted()
      const arranged = arrangeAdapters(held.each, request.adapters, escalationOf(request), merged)
      const sequences = createChoices(request, prompt, maxTokens, arranged, badWords, grammar)
      const { applied } = arranged
      const adapterIds = applied.map(({ id }) => id)
      const judge = guardOf(request, applied)
      const inWeights = merged.length === 0 ? {} : { merged: mergedShares(merged, arranged) }
      const accepted = { kind: 'accepted', promptTokens, adapters: applied, guard: judge } as const
      publish(request.id, { ...accepted, ...inWeights })
      loop.submit({ id: request.id, sequences, adapterIds, release: held.release })
    } catch (error) {
      held.release()
      throw error
    }
  }

  return {
    async submit(request) {
      const controller = new AbortController()
      preparing.set(request.id, controller)
      try {
        await prepare(request, controller.signal)
      } catch (error) {
        publish(request.id, controller.signal.aborted ? { kind: 'cancelled' } : failedBy(error))
        return
      } finally {
        preparing.delete(request.id)
      }
      options.onSubmitted()
    },

    cancel(id) {
      preparing.get(id)?.abort()
      loop.cancel(id)
    },

    async tokenize({ input, turn }) {
      const result = await texts.run({ kind: 'tokenize', input }, turn)
      return result.tokenized
    },

    async detokenize({ input: tokens, turn }) {
      const result = await texts.run({ kind: 'detokenize', tokens }, turn)
      return result.text
    },
  }
}

function refuseUnjudged(): never {
  throw new ServerError('invalid_value', 'Nothing can be judged: this engine has no guard.', {
    param: 'safety',
  })
}

/** Only a ServerError is for clients; anything else is a bug, and its message stays in the log. */
function failedBy(error: unknown): GenerationEvent {
  if (error instanceof ServerError) return { kind: 'failed', error: error.toBody() }
  console.error(error)
  const failure = new ServerError('server_error', 'The request could not be prepared.')
  return { kind: 'failed', error: failure.toBody() }
}

function lastOf(tokens: readonly number[], count: number): readonly number[] {
  return tokens.length <= count ? tokens : tokens.slice(-count)
}

/** Tokens that may be generated: what was asked for, or else what the context leaves. */
function boundTokens(
  promptTokens: number,
  asked: number | null,
  maxContext: number,
  param: 'messages' | 'prompt',
): number {
  const left = maxContext - promptTokens
  if (promptTokens === 0) {
    throw new ServerError('invalid_value', 'The prompt is empty: give at least one token.', {
      param,
    })
  }
  if (left < (asked ?? 1)) {
    throw new ServerError(
      'context_length_exceeded',
      `This model's maximum context length is ${maxContext} tokens; the prompt has ` +
        `${promptTokens}${asked === null ? '' : ` and max_tokens is ${asked}`}. ` +
        'Shorten the prompt or ask for fewer tokens (--max-context bounds both).',
      { param },
    )
  }
  return asked ?? left
}
