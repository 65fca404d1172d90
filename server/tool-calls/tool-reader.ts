// Reads the calls out of an answer, in the format that its model was trained on. What is told of an answer
// depends on its text alone, not on the pieces that it came in: joined, the pieces of a stream are those of
// the whole. White space between text and calls is dropped.
//
//   hermes    <tool_call>{"name": …, "arguments": …}</tool_call>, among text (Qwen2.5, Hermes)
//   llama3    {"name": …, "parameters": …}; … alone, perhaps behind <|python_tag|>
//   deepseek  <｜tool▁call▁begin｜>function<｜tool▁sep｜>name, its arguments fenced, <｜tool▁call▁end｜>
//
// What looks like a call and is none is text. A call that is cut keeps what it has of its arguments.

import type { ToolFormat } from '../contracts/engine.ts'
import type { CallPart } from './call-object.ts'
import { createDeepseekCalls } from './deepseek-calls.ts'
import { createHermesCalls } from './hermes-calls.ts'
import { createLlamaCalls } from './llama-calls.ts'

export type ReplyPiece =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'call'; readonly call: number; readonly name: string }
  | { readonly kind: 'arguments'; readonly call: number; readonly text: string }

/** What a format makes of text: parts of calls, and text that is none. */
export type FormatPart = CallPart | { readonly kind: 'text'; readonly text: string }

export interface FormatReader {
  push(text: string): readonly FormatPart[]
  finish(): readonly FormatPart[]
}

export interface ToolReading {
  readonly format: ToolFormat
  /** Of the tools that there are. */
  readonly names: readonly string[]
  /** Later calls are dropped. */
  readonly maxCalls: number
}

export interface ToolReader {
  push(text: string): readonly ReplyPiece[]
  /** What is still held back, at the end of the answer. */
  finish(): readonly ReplyPiece[]
  readonly numCalls: number
}

/** `reading` null: all is text. */
export function createToolReader(reading: ToolReading | null): ToolReader {
  if (reading === null) {
    return {
      push: (text) => (text === '' ? [] : [{ kind: 'text', text }]),
      finish: () => [],
      numCalls: 0,
    }
  }
  const { maxCalls } = reading
  const format = readerOf(reading)
  const text = createSpaceTrimmer()
  let numCalls = 0

  function pieces(parts: readonly FormatPart[]): ReplyPiece[] {
    const told: ReplyPiece[] = []
    for (const part of parts) {
      if (part.kind === 'text') {
        const shown = text.push(part.text)
        if (shown !== '') told.push({ kind: 'text', text: shown })
        continue
      }
      if (part.kind === 'call') {
        numCalls++
        text.drop()
      }
      if (numCalls > maxCalls || (part.kind === 'arguments' && part.text === '')) continue
      told.push({ ...part, call: numCalls - 1 })
    }
    return merged(told)
  }

  return {
    push: (piece) => pieces(format.push(piece)),
    finish() {
      const told = pieces(format.finish())
      const rest = numCalls === 0 ? text.flush() : ''
      return rest === '' ? told : merged([...told, { kind: 'text', text: rest }])
    },
    get numCalls() {
      return Math.min(numCalls, maxCalls)
    },
  }
}

function readerOf({ format, names }: ToolReading): FormatReader {
  switch (format) {
    case 'hermes':
      return createHermesCalls()
    case 'llama3':
      return createLlamaCalls(names)
    case 'deepseek':
      return createDeepseekCalls()
  }
}

/** Holds white space back until text follows it; a call drops it. */
function createSpaceTrimmer() {
  let space = ''
  let isAfterCall = false

  return {
    push(text: string): string {
      const all = space + text
      const begin = isAfterCall ? all.trimStart() : all
      const shown = begin.trimEnd()
      if (shown === '') {
        space = all
        return ''
      }
      isAfterCall = false
      space = begin.slice(shown.length)
      return shown
    },
    drop(): void {
      space = ''
      isAfterCall = true
    },
    flush(): string {
      const rest = space
      space = ''
      return rest
    },
  }
}

/** Neighbours of one kind as one. */
function merged(pieces: readonly ReplyPiece[]): ReplyPiece[] {
  const all: ReplyPiece[] = []
  for (const piece of pieces) {
    const last = all.at(-1)
    const isSame =
      (piece.kind === 'text' && last?.kind === 'text') ||
      (piece.kind === 'arguments' && last?.kind === 'arguments' && last.call === piece.call)
    if (isSame) all[all.length - 1] = { ...piece, text: last.text + piece.text }
    else all.push(piece)
  }
  return all
}
