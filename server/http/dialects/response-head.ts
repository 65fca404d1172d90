// What a response says of its request, beside what was generated.

import type { ReplyHead } from '../reply/reply.ts'
import type { EchoedFields } from './responses-request.ts'

export type ResponseStatus = 'in_progress' | 'completed' | 'incomplete' | 'failed'

export function responseHead({ id, created, model }: ReplyHead, { request }: EchoedFields): object {
  const or = (field: string, other: unknown) => request[field] ?? other
  return {
    id,
    object: 'response',
    created_at: created,
    model,
    background: false,
    instructions: or('instructions', null),
    max_output_tokens: or('max_output_tokens', null),
    max_tool_calls: or('max_tool_calls', null),
    metadata: or('metadata', {}),
    parallel_tool_calls: or('parallel_tool_calls', true),
    previous_response_id: null,
    reasoning: { effort: null, summary: null, ...(request.reasoning as object | null) },
    service_tier: 'default',
    // Whatever was asked for: nothing is kept.
    store: false,
    temperature: or('temperature', null),
    text: { format: { type: 'text' }, ...(request.text as object | null) },
    tool_choice: or('tool_choice', 'auto'),
    tools: or('tools', []),
    top_logprobs: or('top_logprobs', 0),
    top_p: or('top_p', null),
    truncation: 'disabled',
    user: or('user', null),
  }
}
