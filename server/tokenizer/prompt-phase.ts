// Where a rendered prompt leaves the reply: decided by what the template says, never by a message. In
// protected contents no <think> is whole, and </think> only in earlier answers: a whole <think> is the
// template's own.

import { type ReplyPhase, thoughtEnd, thoughtStart } from '../contracts/thought.ts'

/** `renderBefore`: the prompt without what the template adds for the reply. */
export function phaseAfter(rendered: string, renderBefore: () => string): ReplyPhase {
  const start = rendered.lastIndexOf(thoughtStart)
  const end = rendered.lastIndexOf(thoughtEnd)
  if (start > end) {
    if (isBlank(rendered.slice(start + thoughtStart.length))) return 'opened'
    // The template may speak of the mark in words of its own, far before the reply.
    return start >= commonLength(rendered, renderBefore()) ? 'thinking' : 'beginning'
  }
  return end >= 0 && isBlank(rendered.slice(end + thoughtEnd.length)) ? 'closed' : 'beginning'
}

function isBlank(text: string): boolean {
  return text.trim() === ''
}

function commonLength(one: string, other: string): number {
  let length = 0
  while (length < one.length && one[length] === other[length]) length++
  return length
}
