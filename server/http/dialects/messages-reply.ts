// The answer of POST /v1/messages, and its events in Anthropic's order.

import type { FinishReason, GenerationEvent } from '../../contracts/generation.ts'
import type { ToolReading } from '../../tool-calls/tool-reader.ts'
import { type Attested, attestedFields } from '../reply/applied-adapters.ts'
import { callId } from '../reply/call-id.ts'
import type { Reply, ReplyHead } from '../reply/reply.ts'
import { type Block, type BlockChange, createReplyBlocks } from '../reply/reply-blocks.ts'
import { createUsageCount } from '../reply/usage.ts'

export interface MessagesReplyOptions extends ReplyHead {
  readonly tools: ToolReading | null
  readonly showsThought: boolean
}

export function createMessagesReply(options: MessagesReplyOptions): Reply {
  const { id, model, safety } = options
  const usage = createUsageCount()
  const blocks = createReplyBlocks({ reading: options.tools, showsThought: options.showsThought })
  let attested: Attested = { adapter: [] }
  let finish: { reason: FinishReason; stopReason: string | number | null } | null = null

  function take(event: GenerationEvent): readonly BlockChange[] {
    usage.count(event)
    safety.count(event)
    if (event.kind === 'accepted') attested = attestedFields(event)
    if (event.kind === 'choice_finished') {
      finish = { reason: event.reason, stopReason: event.stopReason }
    }
    return blocks.take(event)
  }

  /** Cached tokens are counted apart from those of the input. */
  function usageField() {
    const { prompt_tokens, completion_tokens, prompt_tokens_details: details } = usage.usage()
    return {
      input_tokens: prompt_tokens - details.cached_tokens,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: details.cached_tokens,
      output_tokens: completion_tokens,
    }
  }

  function stop() {
    if (finish === null) return { stop_reason: null, stop_sequence: null }
    const { reason, stopReason } = finish
    const isSequence = reason === 'stop' && typeof stopReason === 'string'
    return {
      stop_reason: isSequence ? 'stop_sequence' : stopReasonOf(reason, blocks.numCalls),
      stop_sequence: isSequence ? stopReason : null,
    }
  }

  function message(content: readonly object[]) {
    const head = { id, type: 'message', role: 'assistant', model, content }
    return { ...head, ...stop(), usage: usageField() }
  }

  /** Where it begins, without its text. */
  function begin(block: Block): object {
    switch (block.kind) {
      case 'reasoning':
        return { type: 'thinking', thinking: '', signature: '' }
      case 'text':
        return { type: 'text', text: '' }
      case 'call': {
        const { number, name } = block.call!
        return { type: 'tool_use', id: callId(id, number, 0, 'toolu'), name, input: {} }
      }
    }
  }

  function whole(block: Block): object {
    switch (block.kind) {
      case 'reasoning':
        return { ...begin(block), thinking: block.text }
      case 'text':
        return { ...begin(block), text: block.text }
      case 'call':
        return { ...begin(block), input: inputOf(block.text) }
    }
  }

  function changeEvent(change: BlockChange): object {
    const { block } = change
    const { index } = block
    switch (change.kind) {
      case 'open':
        return { type: 'content_block_start', index, content_block: begin(block) }
      case 'grow':
        return { type: 'content_block_delta', index, delta: deltaOf(block.kind, change.text) }
      case 'close':
        return { type: 'content_block_stop', index }
    }
  }

  return {
    collect: (event) => void take(event),
    chunks(event) {
      const changes = take(event)
      if (event.kind === 'accepted') {
        return [
          { type: 'message_start', message: { ...message([]), ...attested } },
          { type: 'ping' },
        ]
      }
      if (event.kind !== 'done') return changes.map(changeEvent)
      const told = { usage: usageField(), safety: safety.fieldOf(0) }
      return [{ type: 'message_delta', delta: stop(), ...told }, { type: 'message_stop' }]
    },
    body: () => ({ ...message(blocks.blocks.map(whole)), ...attested, safety: safety.fieldOf(0) }),
  }
}

function stopReasonOf(reason: FinishReason, numCalls: number): string {
  switch (reason) {
    case 'stop':
      return numCalls > 0 ? 'tool_use' : 'end_turn'
    case 'length':
      return 'max_tokens'
    case 'content_filter':
      return 'refusal'
  }
}

function deltaOf(kind: Block['kind'], text: string): object {
  switch (kind) {
    case 'reasoning':
      return { type: 'thinking_delta', thinking: text }
    case 'text':
      return { type: 'text_delta', text }
    case 'call':
      return { type: 'input_json_delta', partial_json: text }
  }
}

/** A call that was cut has no input that could be read. */
function inputOf(text: string): object {
  try {
    return JSON.parse(text)
  } catch {
    return {}
  }
}
