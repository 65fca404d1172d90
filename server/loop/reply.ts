// What one choice says, token by token, and which adapters act on each position of it. A reply can be
// said again from a place on, with other adapters.
//
// Going back takes no new sample for what is kept: the kept tokens are said again to a fresh output, and
// one more, whose logits were those of a position that is kept. Token k has the same random number before
// and after.

import type { AppliedAdapter } from '../contracts/adapter.ts'
import type { GenerationEvent } from '../contracts/generation.ts'
import type { SampledToken } from '../sampling/logprobs.ts'
import { createOutput, type OutputOptions } from './output.ts'
import { createSegments, type RequestAdapters } from './segments.ts'

export interface ReplyOptions extends OutputOptions {
  readonly adapters: RequestAdapters
}

/** What came of one more token. */
export interface Said {
  readonly deltas: readonly GenerationEvent[]
  /** choice_finished, if the reply ends with it. */
  readonly end: GenerationEvent | null
  readonly endsThought: boolean
}

export function createReply(options: ReplyOptions) {
  const { adapters, promptTokens } = options
  const segments = createSegments(adapters.thought)
  let output = createOutput(options)
  let isEscalated = false

  useAdapters()

  /** From the next token on those act that belong to where the reply stands. */
  function useAdapters(): void {
    const sets = isEscalated ? adapters.escalated! : adapters
    const adapterSet = output.section === 'content' ? sets.answer : sets.thought
    segments.set(promptTokens.length + output.tokens.length, adapterSet)
  }

  function say(takeToken: () => readonly GenerationEvent[]): Said {
    const before = output.section
    const events = takeToken()
    useAdapters()
    const endsThought = before !== 'content' && output.section === 'content' && output.hasThought
    if (!output.isFinished) return { deltas: events, end: null, endsThought }
    return { deltas: events.slice(0, -1), end: events.at(-1)!, endsThought }
  }

  return {
    segments,
    get tokens() {
      return output.tokens
    },
    /** Tokens that have text, hidden ones between them too. */
    get numSaid() {
      return output.numSaid
    },
    /** Of the last token. */
    get part() {
      return output.section === 'reasoning' ? 'reasoning' : 'output'
    },
    /** What acts on the last of the reply's first `numTokens` tokens, and whether on all before it. */
    carrierAt(numTokens: number): {
      readonly applied: readonly AppliedAdapter[]
      readonly isWhole: boolean
    } {
      const position = promptTokens.length + numTokens
      const isWhole = segments.list.filter(({ from }) => from < position).length === 1
      return { applied: segments.at(position - 1).applied, isWhole }
    },

    /** The grammar that the next token has to keep to; null: none does. */
    get walk() {
      return output.walk
    },

    finishEmpty: () => output.finishEmpty(),

    /** Samples the next token from its logits [vocab]; see `createOutput`. */
    accept(logits: Float32Array, blockMax: Float32Array | null): Said {
      return say(() => output.accept(logits, blockMax))
    },
    acceptSampled(token: SampledToken): Said {
      return say(() => output.acceptSampled(token))
    },

    /** It goes on with other adapters once, if the request has some. */
    get mayEscalate() {
      return adapters.escalated !== null && !isEscalated && options.maxTokens > 0
    },
    get isEscalated() {
      return isEscalated
    },
    /** Forgets what it said, and its prompt's keys and values. */
    beginAnew(): void {
      isEscalated = true
      output = createOutput(options)
      segments.set(0, adapters.escalated!.thought)
      useAdapters()
    },
    /** Keeps its first `numKept` tokens, and says the next one again. */
    goBack(numKept: number): Said {
      const { tokens, logprobs } = output
      isEscalated = true
      output = createOutput(options)
      for (let i = 0; i < numKept; i++) output.take(tokens[i]!, logprobs[i] ?? null)
      useAdapters()
      return say(() => output.take(tokens[numKept]!, logprobs[numKept] ?? null))
    },
  }
}
