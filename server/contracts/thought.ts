// A thought's marks, and where a reply stands between thought and answer. The chat template says where
// the prompt leaves it; the reply parser goes on from there.

export const thoughtStart = '<think>'
export const thoughtEnd = '</think>'

/**
 * beginning: nothing of it is there yet, and it may open a thought itself.
 * opened: an opening mark came last. thinking: within a thought.
 * closed: a closing mark came last. answering: within the answer.
 */
export type ReplyPhase = 'beginning' | 'opened' | 'thinking' | 'closed' | 'answering'

/** A message to continue: its thought, and its answer where that has begun. */
export function writeThought(thought: string, answer: string): string {
  const opened = `${thoughtStart}\n${thought}`
  return answer === '' ? opened : `${opened}\n${thoughtEnd}\n\n${answer}`
}

/** How a reply of chat completions names the thought. */
export const reasoningFields = ['both', 'reasoning', 'reasoning_content', 'none'] as const
export type ReasoningField = (typeof reasoningFields)[number]
