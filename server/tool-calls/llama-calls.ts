// {"name": …, "parameters": …} as the whole answer, several of them with a semicolon between, perhaps
// behind <|python_tag|>. JSON that names no tool is an answer.

import { createCallObject } from './call-object.ts'
import type { FormatPart, FormatReader } from './tool-reader.ts'

const tag = '<|python_tag|>'

export function createLlamaCalls(names: readonly string[]): FormatReader {
  const known = new Set(names)
  let place: 'start' | 'call' | 'between' | 'text' = 'start'
  /** What is not told yet: white space, a part of the tag, an object without a name. */
  let raw = ''
  let call = createCallObject((name) => known.has(name))

  function giveUp(parts: FormatPart[]): void {
    place = 'text'
    if (raw !== '') parts.push({ kind: 'text', text: raw })
    raw = ''
  }

  function beginCall(char: string): void {
    call = createCallObject((name) => known.has(name))
    place = 'call'
    raw += char
    call.push(char)
  }

  function take(char: string, parts: FormatPart[]): void {
    if (place === 'start') {
      const begun = (raw + char).trimStart()
      const behind = begun.startsWith(tag) ? begun.slice(tag.length).trimStart() : begun
      if (behind === '{') {
        beginCall(char)
        return
      }
      raw += char
      const mayBegin = behind === '' || tag.startsWith(begun)
      if (!mayBegin) giveUp(parts)
      return
    }
    if (place === 'between') {
      if (char === '{') {
        raw = ''
        beginCall(char)
        return
      }
      raw += char
      if (!/[\s;]/.test(char)) giveUp(parts)
      return
    }
    if (place === 'text') {
      parts.push({ kind: 'text', text: char })
      return
    }
    parts.push(...call.push(char))
    raw = call.isTold ? '' : raw + char
    if (call.state === 'done') place = 'between'
    // A call that was told, and goes on as none: what follows is not told.
    else if (call.state === 'broken' && !call.isTold) giveUp(parts)
  }

  return {
    push(text) {
      const parts: FormatPart[] = []
      for (let i = 0; i < text.length; i++) {
        if (place === 'text') {
          parts.push({ kind: 'text', text: text.slice(i) })
          break
        }
        if (place === 'call' && call.state === 'broken') break
        take(text[i]!, parts)
      }
      return parts
    },
    finish() {
      const rest = place === 'between' ? '' : raw
      raw = ''
      return rest === '' ? [] : [{ kind: 'text', text: rest }]
    },
  }
}
