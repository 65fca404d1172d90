// Between thought and answer: takes a reply as text and marks, and gives its text to one of the two. The
// rules are in reply-parser.ts.

import { type ReplyPhase, type thoughtEnd, thoughtStart } from '../contracts/thought.ts'
import { withoutSigns } from './stop-matcher.ts'

export type Mark = typeof thoughtStart | typeof thoughtEnd

export interface ThoughtSplitterOptions {
  /** Where the prompt leaves the reply. */
  readonly phase: ReplyPhase
  /** A reply that opens no thought is held back until it closes one, or ends. */
  readonly waitsForEnd: boolean
  readonly think: (text: string) => void
  readonly answer: (text: string) => void
}

const leadingNewlines = /^[\r\n]+/

export function createThoughtSplitter({
  waitsForEnd,
  think,
  answer,
  ...given
}: ThoughtSplitterOptions) {
  let phase = given.phase
  let mayOpen = phase === 'beginning' || phase === 'opened' || phase === 'closed'
  let hasThought = false
  /** The reply so far while it is undecided; newlines in a thought, which its mark may follow. */
  let held = ''

  function addAnswer(text: string): void {
    phase = 'answering'
    mayOpen = false
    answer(text)
  }

  function addThought(text: string): void {
    phase = 'thinking'
    mayOpen = false
    held += text
    const length = lengthWithoutNewlines(held)
    think(held.slice(0, length))
    held = held.slice(length)
  }

  function takeHeld(): string {
    const text = held
    held = ''
    return text
  }

  function takeText(text: string): void {
    if (text === '') return
    if (phase === 'beginning') {
      held += text
      if (!waitsForEnd && !isBlank(held)) addAnswer(takeHeld())
    } else if (phase === 'opened' || phase === 'closed') {
      const rest = text.replace(leadingNewlines, '')
      if (rest === '') return
      if (phase === 'opened') addThought(rest)
      else addAnswer(rest)
    } else if (phase === 'thinking') addThought(text)
    else addAnswer(text)
  }

  /** Whether it stands between thought and answer; otherwise it is text. */
  function takeMark(mark: Mark): boolean {
    const isMark =
      mark === thoughtStart ? mayOpen && isBlank(held) : phase !== 'closed' && phase !== 'answering'
    if (!isMark) {
      takeText(mark)
      return false
    }
    // An opening mark that the prompt has set already says nothing new.
    if (mark === thoughtStart && phase === 'opened') return false
    hasThought = true
    const before = takeHeld()
    if (mark === thoughtStart) {
      phase = 'opened'
      return true
    }
    if (phase === 'beginning') addThought(before.replace(leadingNewlines, ''))
    held = ''
    phase = 'closed'
    mayOpen = false
    return true
  }

  return {
    get phase(): ReplyPhase {
      return phase
    },
    /** An opening mark would open a thought here. */
    get mayOpen() {
      return mayOpen
    },
    /** The reply itself opened or closed a thought. */
    get hasThought() {
      return hasThought
    },
    takeText,
    takeMark,
    /** The reply ends. */
    finish(): void {
      if (phase === 'beginning') addAnswer(takeHeld())
      else think(takeHeld())
    },
  }
}

function isBlank(text: string): boolean {
  return withoutSigns(text).trim() === ''
}

function lengthWithoutNewlines(text: string): number {
  let length = text.length
  while (length > 0 && (text[length - 1] === '\n' || text[length - 1] === '\r')) length--
  return length
}
