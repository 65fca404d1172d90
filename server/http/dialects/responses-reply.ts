// The answer of POST /v1/responses, and its typed events in OpenAI's order. The thought is a reasoning item:
// its own words, or where a summary is asked for, the same as a summary.

import type { FinishReason, GenerationEvent } from '../../contracts/generation.ts'
import type { ServerError } from '../../errors.ts'
import type { ToolReading } from '../../tool-calls/tool-reader.ts'
import { type Attested, attestedFields } from '../reply/applied-adapters.ts'
import { moderationField } from '../reply/moderation-field.ts'
import type { Reply, ReplyHead } from '../reply/reply.ts'
import { type Block, type BlockChange, createReplyBlocks } from '../reply/reply-blocks.ts'
import { createUsageCount } from '../reply/usage.ts'
import { type ResponseStatus, responseHead } from './response-head.ts'
import { createResponseItems, type ItemStatus, tokenField } from './response-items.ts'
import type { EchoedFields } from './responses-request.ts'

export interface ResponsesReplyOptions extends ReplyHead {
  readonly choicesPerPrompt: number
  readonly wantsModeration: boolean
  readonly echoed: EchoedFields
  readonly tools: ToolReading | null
  readonly logprobs: boolean
  readonly showsThought: boolean
}

export interface ResponsesReply extends Reply {
  /** The event that tells that the generation failed. */
  failure(error: ServerError): object
}

export function createResponsesReply(options: ResponsesReplyOptions): ResponsesReply {
  const { id, safety, echoed } = options
  const usage = createUsageCount()
  const blocks = createReplyBlocks({ reading: options.tools, showsThought: options.showsThought })
  const { itemOf, textPart, partPlace, names } = createResponseItems(id, echoed.wantsSummary)
  let attested: Attested = { adapter: [] }
  let reason: FinishReason | null = null
  let numEvents = 0

  function event(type: string, fields: object): object {
    return { type, sequence_number: numEvents++, ...fields }
  }

  /** A cut reply's last item is cut. */
  function endOf(block: Block): ItemStatus {
    const isCut = reason !== null && reason !== 'stop'
    return isCut && block.index === blocks.blocks.length - 1 ? 'incomplete' : 'completed'
  }

  function openEvents(block: Block): object[] {
    const { part } = names(block)
    const item = itemOf(block, 'in_progress')
    const added = event('response.output_item.added', { output_index: block.index, item })
    if (part === null) return [added]
    return [added, event(`${part}.added`, { ...partPlace(block), part: textPart(block, '') })]
  }

  function growEvents({ block, text, logprobs }: Extract<BlockChange, { kind: 'grow' }>): object[] {
    const told = block.kind === 'text' ? { logprobs: logprobs.map(tokenField) } : {}
    return [event(`${names(block).text}.delta`, { ...partPlace(block), delta: text, ...told })]
  }

  function closeEvents(block: Block): object[] {
    const { text: name, part } = names(block)
    const { text } = block
    const whole =
      block.kind === 'call'
        ? { name: block.call!.name, arguments: text }
        : { text, ...(block.kind === 'text' ? { logprobs: block.logprobs.map(tokenField) } : {}) }
    const item = itemOf(block, endOf(block))
    return [
      event(`${name}.done`, { ...partPlace(block), ...whole }),
      ...(part === null
        ? []
        : [event(`${part}.done`, { ...partPlace(block), part: textPart(block, text) })]),
      event('response.output_item.done', { output_index: block.index, item }),
    ]
  }

  function changeEvents(change: BlockChange): object[] {
    switch (change.kind) {
      case 'open':
        return openEvents(change.block)
      case 'grow':
        return growEvents(change)
      case 'close':
        return closeEvents(change.block)
    }
  }

  function response(status: ResponseStatus, error: object | null = null): object {
    const isOver = status !== 'in_progress'
    const why = reason === 'length' ? 'max_output_tokens' : reason
    return {
      ...responseHead(options, echoed),
      status,
      error,
      incomplete_details: status === 'incomplete' ? { reason: why } : null,
      output: isOver ? blocks.blocks.map((block) => itemOf(block, endOf(block))) : [],
      usage: isOver ? usageField() : null,
      ...(options.wantsModeration && isOver
        ? { moderation: moderationField(safety, options) }
        : {}),
      ...attested,
      safety: safety.fieldOf(0),
    }
  }

  function usageField() {
    const { prompt_tokens, completion_tokens, total_tokens, ...details } = usage.usage()
    return {
      input_tokens: prompt_tokens,
      input_tokens_details: { ...details.prompt_tokens_details, cache_write_tokens: 0 },
      output_tokens: completion_tokens,
      output_tokens_details: details.completion_tokens_details,
      total_tokens,
    }
  }

  function finalStatus(): ResponseStatus {
    return reason === 'stop' ? 'completed' : 'incomplete'
  }

  function take(generated: GenerationEvent): readonly BlockChange[] {
    usage.count(generated)
    safety.count(generated)
    if (generated.kind === 'accepted') attested = attestedFields(generated)
    if (generated.kind === 'choice_finished') ({ reason } = generated)
    const shown =
      generated.kind === 'delta' && !options.logprobs ? { ...generated, logprobs: null } : generated
    return blocks.take(shown)
  }

  return {
    collect: (generated) => void take(generated),
    chunks(generated) {
      const changes = take(generated)
      if (generated.kind === 'accepted') {
        return ['response.created', 'response.in_progress'].map((type) =>
          event(type, { response: response('in_progress') }),
        )
      }
      if (generated.kind !== 'done') return changes.flatMap(changeEvents)
      const status = finalStatus()
      return [event(`response.${status}`, { response: response(status) })]
    },
    body: () => response(finalStatus()),
    failure: ({ code, message }) =>
      event('response.failed', { response: response('failed', { code, message }) }),
  }
}
