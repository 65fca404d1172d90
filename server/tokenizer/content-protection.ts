// Message contents never become special tokens, so no text can forge a template's shape: before
// rendering, a break is put inside every special text that a content holds, and the rendered text is
// encoded piece by piece. The marks of a thought are told apart in the same way where they are text:
// by a break that is taken out again.

import type { ChatMessage } from '../contracts/generation.ts'
import { isObject } from '../contracts/json.ts'
import { thoughtEnd, thoughtStart } from '../contracts/thought.ts'

// Noncharacters: Unicode keeps them for uses like this one; in input they become U+FFFD.
const hardBreak = '\uFDD0'
const softBreak = '\uFDD1'
const reserved = /[\uFDD0-\uFDD2]/g

export interface ContentProtection {
  protect(message: Pick<ChatMessage, 'role' | 'content'>): string
  /** Every text of a JSON value, keys too, as that of a user. */
  protectJson(value: unknown): unknown
  /** Contents as they were written. */
  unprotect(rendered: string): string
  /** Pieces between which no token spans. */
  segments(rendered: string): string[]
}

export function createContentProtection(specialTexts: readonly string[]): ContentProtection {
  const marks = [thoughtStart, thoughtEnd].filter((mark) => !specialTexts.includes(mark))
  const inAnyText = breakable(specialTexts)
  const inAnswer = breakable(specialTexts.filter((text) => text !== thoughtEnd))
  const marksInAnyText = breakable(marks)
  const marksInAnswer = breakable(marks.filter((text) => text !== thoughtEnd))
  const longest = Math.max(0, ...specialTexts.map((text) => text.length))

  const prefixes = new Set(
    specialTexts.flatMap((text) => Array.from({ length: text.length }, (_, i) => text.slice(0, i))),
  )

  function endsAsPrefix(text: string): boolean {
    for (let length = Math.min(longest, text.length); length > 0; length--) {
      if (prefixes.has(text.slice(-length))) return true
    }
    return false
  }

  /** Breaks what would become a special text if a template took </think> out of its middle. */
  function separate(answer: string): string {
    const parts = answer.split(thoughtEnd)
    return parts
      .map((part, i) => {
        if (i === parts.length - 1) return part
        return endsAsPrefix(part) ? part + hardBreak : part
      })
      .join(thoughtEnd)
  }

  function protectText(text: string, isAnswer: boolean): string {
    const pattern = isAnswer ? inAnswer : inAnyText
    const markPattern = isAnswer ? marksInAnswer : marksInAnyText
    let safe = text
    if (pattern) safe = breakSpecial(safe, pattern, hardBreak)
    if (markPattern) safe = breakSpecial(safe, markPattern, softBreak)
    if (isAnswer && safe.includes(thoughtEnd)) safe = separate(safe)
    // A combining mark must not join with what the template puts before it (">" + U+0338).
    return safe.replace(/(?:^|<\/think>)\s*(?=\p{M})/gu, (start) => start + hardBreak)
  }

  function protect({ role, content }: Pick<ChatMessage, 'role' | 'content'>): string {
    const text = content.toWellFormed().replace(reserved, '\uFFFD')
    // Templates must see </think> in earlier answers to strip the thoughts before it.
    return protectText(text, role === 'assistant')
  }

  function protectJson(value: unknown): unknown {
    if (typeof value === 'string') return protect({ role: 'user', content: value })
    if (Array.isArray(value)) return value.map(protectJson)
    if (!isObject(value)) return value
    const entries = Object.entries(value)
    return Object.fromEntries(entries.map(([key, at]) => [protectJson(key), protectJson(at)]))
  }

  return {
    protect,
    protectJson,
    unprotect: (rendered) => rendered.replace(/[\uFDD0\uFDD1]/g, ''),
    segments: (rendered) => rendered.replaceAll(softBreak, '').split(hardBreak),
  }
}

/** Matches the first character of each text where the rest of it follows. */
function breakable(texts: readonly string[]): RegExp | null {
  const alternatives = texts.filter((text) => [...text].length > 1).map(breakAfterFirst)
  return alternatives.length > 0 ? new RegExp(alternatives.join('|'), 'gu') : null
}

function breakSpecial(text: string, pattern: RegExp, mark: string): string {
  const composed = text.normalize('NFC')
  // Where the checkpoint normalises, a text may become special by composition: then that form is
  // taken; any other text stays as it was written.
  const source = composed !== text && composed.search(pattern) >= 0 ? composed : text
  return source.replace(pattern, (first) => first + mark)
}

function breakAfterFirst(text: string): string {
  const [first, ...rest] = [...text].map(escapeRegExp)
  return `${first}(?=${rest.join('')})`
}

function escapeRegExp(char: string): string {
  return char.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
}
