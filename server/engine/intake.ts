// Takes requests in: has the prompt encoded, checks that it fits the context, loads the adapters, and hands
// the choices to the loop. A request that never reaches the loop gets its one terminal event here.

import type { AcquiredAdapters, AdapterStore } from '../adapters/store.ts'
import type { Asked, TokenizeInput, TokenizeResult } from '../contracts/engine.ts'
import type { GenerateRequest, GenerationEvent, Prompt } from '../contracts/generation.ts'
import type { ReplyPhase } from '../contracts/thought.ts'
import { ServerError } from '../errors.ts'
import type { Loop } from '../loop/loop.ts'
import { createSequence, type Sequence } from '../loop/sequence.ts'
import type { TokenTexts } from '../tokenizer/token-texts.ts'
import { createCallAdapters } from './call-adapters.ts'
import type { TextThreads } from './text-threads.ts'
import { requireRows } from './token-ids.ts'

export interface IntakeOptions {
  readonly tokenizer: Pick<
    TokenTexts,
    'decode' | 'tokenText' | 'tokenBytes' | 'isSpecial' | 'specialTexts' | 'idOf'
  >
  readonly texts: Pick<TextThreads, 'run'>
  readonly store: Pick<AdapterStore, 'acquire'>
  readonly loop: Pick<Loop, 'submit' | 'cancel'>
  /** Longest prompt and answer together, in tokens. */
  readonly maxContext: number
  /** Rows of the embedding; the tokenizer may know more ids. */
  readonly vocabSize: number
  readonly eosTokenIds: readonly number[]
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
  const { tokenizer, texts, loop, maxContext, eosTokenIds } = options
  const adapters = createCallAdapters(options.store)
  /** Requests whose prompt is encoded or whose adapters are loaded; aborted when they are cancelled. */
  const preparing = new Map<string, AbortController>()

  function publish(id: string, event: GenerationEvent): void {
    options.publish([[id, event]])
  }

  async function encodePrompt(
    { prompt, turn }: GenerateRequest,
    signal: AbortSignal,
  ): Promise<EncodedPrompt> {
    if (prompt.kind === 'tokens') return { tokens: prompt.tokens, phase: 'answering' }
    const encoded = await texts.run({ kind: 'encode', prompt, maxContext }, turn, signal)
    return { phase: encoded.phase, tokens: Array.from(encoded.tokens) }
  }

  /** The prompt to echo: as the client wrote it, where it wrote text. */
  function textOf(prompt: Prompt, tokens: readonly number[]): string {
    return prompt.kind === 'text' ? prompt.text : tokenizer.decode(tokens)
  }

  function createChoices(
    request: GenerateRequest,
    { tokens, phase }: EncodedPrompt,
    maxTokens: number,
    { applied, components }: AcquiredAdapters,
  ): Sequence[] {
    const cacheKey = applied.map(({ digest, scale }) => `${digest}:${scale}`).join(' ')
    const promptText = request.echo ? textOf(request.prompt, tokens) : ''
    return Array.from({ length: request.n }, (_, index) =>
      createSequence({
        request,
        index,
        promptTokens: tokens,
        promptText,
        components,
        cacheKey,
        tokenizer,
        eosTokenIds,
        phase,
        maxTokens,
      }),
    )
  }

  /** Rejects where the loop has not taken the request. */
  async function prepare(request: GenerateRequest, signal: AbortSignal): Promise<void> {
    const prompt = await encodePrompt(request, signal)
    signal.throwIfAborted()
    requireRows(prompt.tokens, options.vocabSize, tokenizer.tokenText)
    const promptTokens = prompt.tokens.length
    const param = request.prompt.kind === 'messages' ? 'messages' : 'prompt'
    const maxTokens = boundTokens(promptTokens, request.maxTokens, maxContext, param)
    const held = await adapters.acquire(request, signal)
    try {
      signal.throwIfAborted()
      const sequences = createChoices(request, prompt, maxTokens, held)
      const adapterIds = held.applied.map(({ id }) => id)
      publish(request.id, { kind: 'accepted', promptTokens, adapters: held.applied })
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

/** Only a ServerError is for clients; anything else is a bug, and its message stays in the log. */
function failedBy(error: unknown): GenerationEvent {
  if (error instanceof ServerError) return { kind: 'failed', error: error.toBody() }
  console.error(error)
  const failure = new ServerError('server_error', 'The request could not be prepared.')
  return { kind: 'failed', error: failure.toBody() }
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
