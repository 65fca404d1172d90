// A message to continue that has a thought, or the beginning of one: "<think>…", "<think>…</think>…", or
// "…</think>…" as a reply reads whose prompt opened the thought.

import { thoughtEnd } from '../contracts/thought.ts'

export interface ContinuedThought {
  readonly thought: string
  /** null: the thought is still open. */
  readonly answer: string | null
}

/** Null where the message is an answer only. */
export function readContinuedThought(content: string): ContinuedThought | null {
  const opening = /^\s*<think>[\r\n]*/.exec(content)?.[0]
  const body = content.slice(opening?.length ?? 0)
  const end = body.indexOf(thoughtEnd)
  if (end >= 0) {
    const thought = body.slice(0, end).trimEnd()
    return { thought, answer: body.slice(end + thoughtEnd.length).replace(/^[\r\n]+/, '') }
  }
  return opening === undefined ? null : { thought: body, answer: null }
}
