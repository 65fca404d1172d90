// A prompt that cannot fit is refused before anything tokenises it: a long word costs the tokenizer
// seconds, counting bytes costs nothing. The true count is the engine's, and so is its refusal.

import type { ModelInfo } from '../../contracts/engine.ts'
import type { Prompt } from '../../contracts/generation.ts'
import { ServerError } from '../../errors.ts'

/** No vocabulary of the families served here has a longer token. */
const maxBytesPerToken = 256

export function checkPromptSize(prompt: Prompt, param: string, model: ModelInfo): void {
  if (prompt.kind === 'tokens') return
  const texts =
    prompt.kind === 'text'
      ? [prompt.text]
      : [
          ...prompt.messages.map(({ content }) => content),
          ...prompt.messages.flatMap(({ toolCalls = [] }) =>
            toolCalls.map((call) => call.arguments),
          ),
          JSON.stringify(prompt.tools ?? []),
        ]
  const numBytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  const numTokens = Math.ceil(numBytes / maxBytesPerToken)
  if (numTokens <= model.maxContext) return
  throw new ServerError(
    'context_length_exceeded',
    `the prompt has at least ${numTokens} tokens (${numBytes} bytes) and the context is ${model.maxContext} (--max-context); shorten it`,
    { param },
  )
}
