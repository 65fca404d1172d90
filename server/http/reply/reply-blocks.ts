// A reply as a row of blocks: its thought, its text, its calls of tools. Each event opens, grows and closes
// some; a whole answer is what they are at the end. So a stream and a whole answer never differ.

import type { GenerationEvent, TokenLogprobs } from '../../contracts/generation.ts'
import {
  createToolReader,
  type ReplyPiece,
  type ToolReading,
} from '../../tool-calls/tool-reader.ts'

export interface Block {
  readonly kind: 'reasoning' | 'text' | 'call'
  /** Of the reply. */
  readonly index: number
  /** Of a call: which one it is, and of what. */
  readonly call: { readonly number: number; readonly name: string } | null
  /** Of a call its arguments, as JSON text. */
  text: string
  readonly logprobs: TokenLogprobs[]
}

export type BlockChange =
  | { readonly kind: 'open' | 'close'; readonly block: Block }
  | {
      readonly kind: 'grow'
      readonly block: Block
      readonly text: string
      readonly logprobs: readonly TokenLogprobs[]
    }

type Delta = Extract<GenerationEvent, { kind: 'delta' }>

export interface BlocksOptions {
  readonly reading: ToolReading | null
  readonly showsThought: boolean
}

export function createReplyBlocks({ reading, showsThought }: BlocksOptions) {
  const reader = createToolReader(reading)
  const blocks: Block[] = []
  let open: Block | null = null

  function close(): BlockChange[] {
    const block = open
    open = null
    return block === null ? [] : [{ kind: 'close', block }]
  }

  function openBlock(kind: Block['kind'], call: Block['call'] = null): BlockChange[] {
    const closed = close()
    open = { kind, index: blocks.length, call, text: '', logprobs: [] }
    blocks.push(open)
    return [...closed, { kind: 'open', block: open }]
  }

  function grow(
    kind: Block['kind'],
    text: string,
    logprobs: readonly TokenLogprobs[] = [],
  ): BlockChange[] {
    if (text === '' && (logprobs.length === 0 || open?.kind !== kind)) return []
    const changes = open?.kind === kind ? [] : openBlock(kind)
    const block = open!
    block.text += text
    block.logprobs.push(...logprobs)
    return [...changes, { kind: 'grow', block, text, logprobs }]
  }

  function ofPieces(
    pieces: readonly ReplyPiece[],
    logprobs: readonly TokenLogprobs[],
  ): BlockChange[] {
    // What is told of tokens goes with the first text that comes of them.
    const texts = pieces.length === 0 ? [{ kind: 'text', text: '' } as const] : pieces
    return texts.flatMap((piece, i) => {
      if (piece.kind === 'call') {
        return openBlock('call', { number: piece.call, name: piece.name })
      }
      const kind = piece.kind === 'text' ? 'text' : 'call'
      return grow(kind, piece.text, i === 0 && kind === 'text' ? logprobs : [])
    })
  }

  function ofDelta({ section, text, logprobs }: Delta): BlockChange[] {
    if (section === 'reasoning') return showsThought ? grow('reasoning', text) : []
    return ofPieces(reader.push(text), logprobs ?? [])
  }

  return {
    blocks: blocks as readonly Block[],
    get numCalls() {
      return reader.numCalls
    },
    take(event: GenerationEvent): readonly BlockChange[] {
      if (event.kind === 'delta') return ofDelta(event)
      if (event.kind !== 'choice_finished') return []
      return [...ofPieces(reader.finish(), []), ...close()]
    },
  }
}
