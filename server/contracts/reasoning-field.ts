/** How a reply of chat completions names the thought. */
export const reasoningFields = ['both', 'reasoning', 'reasoning_content', 'none'] as const
export type ReasoningField = (typeof reasoningFields)[number]
