// What the two completion routes have in common: a reply takes the engine's events and turns each into
// stream chunks, or gathers them for one body at the end. It is pure: no clock, no socket.

import type { GenerationEvent } from '../../contracts/generation.ts'
import type { ServerError } from '../../errors.ts'
import type { SafetyCount } from './safety-field.ts'
import { createUsageCount } from './usage.ts'

export interface Reply {
  /** Stream chunks for this event, to be walked once. The route sends failures and the end marker. */
  chunks(event: GenerationEvent): Iterable<object>
  /** Of a whole answer: keeps what the event brings. */
  collect(event: GenerationEvent): void
  /** The whole answer, after `done`. Its lists may be made while they are walked, once. */
  body(): object
}

/** How a reply is sent as a stream. */
export interface StreamFrame {
  /** Each event has the name of its `type`. */
  readonly isTyped: boolean
  /** What tells that the generation failed. */
  readonly failure: (error: ServerError) => object
  /** The stream's last line; null: its last event is enough. */
  readonly end: '[DONE]' | null
}

export interface ReplyHead {
  readonly id: string
  readonly created: number
  /** The model as the request named it. */
  readonly model: string
  readonly n: number
  readonly stream: StreamOptions
  /** What the guard said so far. */
  readonly safety: SafetyCount
}

export interface StreamOptions {
  /** One last chunk with `choices: []` and the usage; null on all others. */
  readonly includeUsage: boolean
  /** The usage so far on every chunk (vLLM). */
  readonly continuousUsage: boolean
  /** A chunk with `choices: []` at each verdict. */
  readonly includeSafety: boolean
}

/** Adds `usage` to chunks as the stream options want it. */
export function createChunkUsage(options: StreamOptions) {
  const count = createUsageCount()
  return {
    ...count,
    onChunk: () =>
      options.includeUsage ? { usage: options.continuousUsage ? count.usage() : null } : {},
  }
}
