// The items of a response, and what its events call them.

import type { TokenLogprobs } from '../../contracts/generation.ts'
import { callId } from '../reply/call-id.ts'
import type { Block } from '../reply/reply-blocks.ts'

export type ItemStatus = 'in_progress' | 'completed' | 'incomplete'

/** `id`: of the response. `isSummary`: its thought is told as one. */
export function createResponseItems(id: string, isSummary: boolean) {
  function idOf({ kind, index }: Block): string {
    const prefix = { reasoning: 'rs', text: 'msg', call: 'fc' }[kind]
    return callId(id, index, 0, prefix)
  }

  function textPart(block: Block, text: string) {
    if (block.kind === 'reasoning') {
      return { type: isSummary ? 'summary_text' : 'reasoning_text', text }
    }
    const logprobs = text === '' ? [] : block.logprobs.map(tokenField)
    return { type: 'output_text', text, annotations: [], logprobs }
  }

  /** `isOpen`: its text is still to come. */
  function itemOf(block: Block, status: ItemStatus): object {
    const isOpen = status === 'in_progress'
    const own = { id: idOf(block), status }
    const parts = isOpen || block.text === '' ? [] : [textPart(block, block.text)]
    switch (block.kind) {
      case 'reasoning':
        return {
          ...own,
          type: 'reasoning',
          summary: isSummary ? parts : [],
          ...(isSummary ? {} : { content: parts }),
          encrypted_content: null,
        }
      case 'text':
        return { ...own, type: 'message', role: 'assistant', content: parts }
      case 'call':
        return {
          ...own,
          type: 'function_call',
          call_id: callId(id, block.call!.number),
          name: block.call!.name,
          arguments: isOpen ? '' : block.text,
        }
    }
  }

  function partPlace(block: Block): object {
    const place = { item_id: idOf(block), output_index: block.index }
    if (block.kind === 'call') return place
    const isPlain = block.kind === 'text' || !isSummary
    return isPlain ? { ...place, content_index: 0 } : { ...place, summary_index: 0 }
  }

  function names(block: Block) {
    if (block.kind === 'call') return { text: 'response.function_call_arguments', part: null }
    if (block.kind === 'text')
      return { text: 'response.output_text', part: 'response.content_part' }
    return isSummary
      ? { text: 'response.reasoning_summary_text', part: 'response.reasoning_summary_part' }
      : { text: 'response.reasoning_text', part: 'response.content_part' }
  }

  return { itemOf, textPart, partPlace, names }
}

export function tokenField({ token, logprob, bytes, top }: TokenLogprobs) {
  const top_logprobs = top.map((other) => ({
    token: other.token,
    logprob: other.logprob,
    bytes: other.bytes,
  }))
  return { token, logprob, bytes, top_logprobs }
}
