// DeepSeek's calls: <｜tool▁call▁begin｜>function<｜tool▁sep｜>name, a line break, the arguments in a fence of
// JSON, <｜tool▁call▁end｜>; all of them between <｜tool▁calls▁begin｜> and <｜tool▁calls▁end｜>. Later models
// write <｜tool▁call▁begin｜>name<｜tool▁sep｜>arguments<｜tool▁call▁end｜>.

import { findMark } from './mark-finder.ts'
import type { FormatPart, FormatReader } from './tool-reader.ts'

const listBegin = '<｜tool▁calls▁begin｜>'
const listEnd = '<｜tool▁calls▁end｜>'
const begin = '<｜tool▁call▁begin｜>'
const separator = '<｜tool▁sep｜>'
const end = '<｜tool▁call▁end｜>'
const fence = '```'

type Place = 'text' | 'kind' | 'name' | 'arguments' | 'behind'

export function createDeepseekCalls(): FormatReader {
  let held = ''
  let place: Place = 'text'
  let kind = ''
  /** Calls are listed: what stands between them is no text. */
  let isListed = false
  let depth = createDepth()

  function inText(parts: FormatPart[]): boolean {
    const { text, mark, rest } = findMark(held, [listBegin, begin, listEnd])
    held = rest
    if (text !== '' && !isListed) parts.push({ kind: 'text', text })
    if (mark === null) return false
    if (mark === listBegin) isListed = true
    else if (mark === listEnd) isListed = false
    else place = 'kind'
    return true
  }

  /** Up to the separator; a call that never has one is dropped with its end. */
  function inKind(): boolean {
    const { text, mark, rest } = findMark(held, [separator, end])
    if (mark === null) return false
    held = rest
    kind = text.trim()
    place = mark === end ? 'text' : 'name'
    return true
  }

  function inName(parts: FormatPart[]): boolean {
    const started = held.trimStart()
    if (started === '') return false
    if (started.startsWith('{')) {
      parts.push({ kind: 'call', name: kind })
      held = started
      place = 'arguments'
      return true
    }
    const { text, mark, rest } = findMark(started, ['\n', fence, end])
    if (mark === null) return false
    held = mark === '\n' ? rest : `${mark}${rest}`
    parts.push({ kind: 'call', name: text.trim() })
    place = 'arguments'
    return true
  }

  /** Up to the first brace: a fence and its language. */
  function beforeArguments(parts: FormatPart[]): boolean {
    const { mark, rest } = findMark(held, ['{', end])
    held = rest
    if (mark === null) return false
    depth = createDepth()
    place = mark === end ? 'text' : 'behind'
    if (mark === end) parts.push({ kind: 'arguments', text: '{}' })
    else held = `${mark}${rest}`
    return true
  }

  /** The arguments themselves, then what stands until the end of the call. */
  function behind(parts: FormatPart[]): boolean {
    if (!depth.isClosed) {
      const length = depth.lengthOf(held)
      if (length > 0) parts.push({ kind: 'arguments', text: held.slice(0, length) })
      held = held.slice(length)
      if (!depth.isClosed) return false
    }
    const { mark, rest } = findMark(held, [end, begin, listEnd])
    held = mark === null || mark === end ? rest : `${mark}${rest}`
    if (mark === null) return false
    place = 'text'
    return true
  }

  function step(parts: FormatPart[]): boolean {
    switch (place) {
      case 'text':
        return inText(parts)
      case 'kind':
        return inKind()
      case 'name':
        return inName(parts)
      case 'arguments':
        return beforeArguments(parts)
      case 'behind':
        return behind(parts)
    }
  }

  return {
    push(text) {
      const parts: FormatPart[] = []
      held += text
      while (step(parts)) {
        // Until nothing more can be told.
      }
      return parts
    },
    finish() {
      const rest = place === 'text' && !isListed ? held : ''
      held = ''
      return rest === '' ? [] : [{ kind: 'text', text: rest }]
    },
  }
}

/** How far a JSON object goes. */
function createDepth() {
  let depth = 0
  let isInString = false
  let isEscaped = false
  let isClosed = false

  return {
    get isClosed() {
      return isClosed
    },
    /** Characters of this piece that belong to it. */
    lengthOf(text: string): number {
      for (let i = 0; i < text.length; i++) {
        const char = text[i]!
        if (isEscaped) isEscaped = false
        else if (isInString) {
          if (char === '\\') isEscaped = true
          else if (char === '"') isInString = false
        } else if (char === '"') isInString = true
        else if (char === '{' || char === '[') depth++
        else if ((char === '}' || char === ']') && --depth === 0) {
          isClosed = true
          return i + 1
        }
      }
      return text.length
    },
  }
}
