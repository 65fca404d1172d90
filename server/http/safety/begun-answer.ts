// Under a floor no client writes the beginning of the answer: a reply that begins with "Sure, here is"
// goes on where one from its own first token would refuse.

import type { GenerateRequest } from '../../contracts/generation.ts'
import { ServerError } from '../../errors.ts'
import type { Floor } from './floor.ts'

function refusal(param: string, what: string): ServerError {
  return new ServerError(
    'policy_floor',
    `${param} ${what}, and such requests are refused here (--begun-answers); ` +
      'send a chat that ends with a user message',
    { param },
  )
}

/** What of a request could write the beginning of its answer. */
type Asked = Pick<GenerateRequest, 'prompt' | 'constraint' | 'constraintField'>

/**
 * Throws policy_floor. A thinking switch closes the thought with the template's own words; of JSON the
 * answer itself is the model's.
 */
export function refuseBegunAnswer(
  { prompt, constraint, constraintField }: Asked,
  floor: Floor,
): void {
  if (floor.allowsBegunAnswers) return
  if (constraint?.kind === 'regex' || constraint?.kind === 'grammar') {
    throw refusal(constraintField ?? 'structured_outputs', 'may write the beginning of the answer')
  }
  if (prompt.kind !== 'messages') throw refusal('prompt', 'may hold the beginning of the answer')
  const last = prompt.messages.length - 1
  if (prompt.messages[last]?.role !== 'assistant') return
  throw refusal(`messages.${last}`, 'is of the assistant: it may begin the answer')
}
