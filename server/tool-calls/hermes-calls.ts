// <tool_call>{"name": …, "arguments": …}</tool_call> among text.

import { createCallObject } from './call-object.ts'
import { findMark } from './mark-finder.ts'
import type { FormatPart, FormatReader } from './tool-reader.ts'

const begin = '<tool_call>'
const end = '</tool_call>'

export function createHermesCalls(): FormatReader {
  let held = ''
  /** Since the mark of a call whose name is not known yet. */
  let raw = ''
  let call: ReturnType<typeof createCallObject> | null = null
  /** An end mark belongs to the call before it. */
  let awaitsEnd = false

  /** What follows a call that was told and broke off is no text: until its end mark. */
  let skipsToEnd = false

  /** The end mark of a call comes next, or never. */
  function inEnd(): boolean {
    const next = held.trimStart()
    if (next.length < end.length && end.startsWith(next)) return false
    awaitsEnd = false
    if (next.startsWith(end)) held = next.slice(end.length)
    return true
  }

  function inText(parts: FormatPart[]): boolean {
    if (awaitsEnd) return inEnd()
    const { text, mark, rest } = findMark(held, skipsToEnd ? [begin, end] : [begin])
    held = rest
    if (text !== '' && !skipsToEnd) parts.push({ kind: 'text', text })
    if (mark === null) return false
    skipsToEnd = false
    if (mark === end) return true
    call = createCallObject((name) => name !== '')
    raw = mark
    return true
  }

  function inCall(object: ReturnType<typeof createCallObject>, parts: FormatPart[]): boolean {
    for (let i = 0; i < held.length; i++) {
      parts.push(...object.push(held[i]!))
      if (!object.isTold) raw += held[i]
      if (object.state === 'open') continue
      held = held.slice(i + 1)
      call = null
      if (object.state === 'done') awaitsEnd = true
      else if (object.isTold) skipsToEnd = true
      else {
        // Its mark was text; what followed it may hold another.
        parts.push({ kind: 'text', text: begin })
        held = raw.slice(begin.length) + held
      }
      return true
    }
    held = ''
    return false
  }

  function advance(): FormatPart[] {
    const parts: FormatPart[] = []
    while (call === null ? inText(parts) : inCall(call, parts)) {
      // Until nothing more can be told.
    }
    return parts
  }

  return {
    push(text) {
      held += text
      return advance()
    },
    finish() {
      const isText = call !== null && !call.isTold
      const isSilent = skipsToEnd || awaitsEnd || call !== null
      const rest = isText ? raw : isSilent ? '' : held
      call = null
      held = ''
      return rest === '' ? [] : [{ kind: 'text', text: rest }]
    },
  }
}
