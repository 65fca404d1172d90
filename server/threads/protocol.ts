// What a thread and the one that started it say to each other. Errors that someone can act on keep
// their code, which an error that crosses threads by itself would lose.

import { type ErrorBody, ServerError } from '../errors.ts'

/** Told how many more bytes are done. */
export type OnBytes = (bytes: number) => void

/** What a thread is started with. */
export interface ThreadData {
  /** Of the module whose task it does. */
  readonly url: string
}

export interface Order<Input> {
  readonly id: number
  readonly input: Input
}

export type Report<Output> =
  | { readonly kind: 'progress'; readonly id: number; readonly bytes: number }
  | { readonly kind: 'result'; readonly id: number; readonly output: Output }
  | { readonly kind: 'refused'; readonly id: number; readonly error: ErrorBody }
  | { readonly kind: 'failed'; readonly id: number; readonly error: Failure }

/** An error that nobody can act on, as much of it as a log wants. */
export interface Failure {
  readonly message: string
  readonly stack: string | undefined
  readonly code: string | undefined
}

export function reportError(id: number, error: unknown): Report<never> {
  if (error instanceof ServerError) return { kind: 'refused', id, error: error.toBody() }
  const { message, stack, code }: NodeJS.ErrnoException =
    error instanceof Error ? error : new Error(String(error))
  return { kind: 'failed', id, error: { message, stack, code } }
}

export function failureToError({ message, stack, code }: Failure): Error {
  const error = new Error(message)
  return Object.assign(error, { stack, code })
}
