// Token counts of a reply, in OpenAI's shape, while it grows and when it is done.

import type { GenerationEvent } from '../../contracts/generation.ts'

export interface Usage {
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
  readonly prompt_tokens_details: { readonly cached_tokens: number }
  readonly completion_tokens_details: { readonly reasoning_tokens: number }
}

export function createUsageCount() {
  let promptTokens = 0
  let cachedTokens = 0
  // Choice → tokens so far; the engine's own count replaces ours when the choice is finished.
  const completion = new Map<number, { completionTokens: number; reasoningTokens: number }>()

  return {
    count(event: GenerationEvent) {
      if (event.kind === 'accepted') {
        promptTokens = event.promptTokens
      } else if (event.kind === 'delta') {
        const { completionTokens = 0, reasoningTokens = 0 } = completion.get(event.index) ?? {}
        completion.set(event.index, {
          completionTokens: completionTokens + event.numTokens,
          reasoningTokens: reasoningTokens + (event.section === 'reasoning' ? event.numTokens : 0),
        })
      } else if (event.kind === 'choice_finished') completion.set(event.index, event.usage)
      else if (event.kind === 'done') cachedTokens = event.cachedTokens
    },
    usage(): Usage {
      let completionTokens = 0
      let reasoningTokens = 0
      for (const choice of completion.values()) {
        completionTokens += choice.completionTokens
        reasoningTokens += choice.reasoningTokens
      }
      return {
        prompt_tokens: promptTokens,
        completion_tokens: completionTokens,
        total_tokens: promptTokens + completionTokens,
        prompt_tokens_details: { cached_tokens: cachedTokens },
        completion_tokens_details: { reasoning_tokens: reasoningTokens },
      }
    },
  }
}
