// A chat with its tools: the one way from a body to what the engine is asked for, whichever route the body
// came by.

import type { ModelInfo } from '../../contracts/engine.ts'
import type { JsonObject } from '../../contracts/json.ts'
import { type ChatFields, parseChat } from '../request/chat-request.ts'
import { type Spelling, spelledOut } from '../request/field-rules.ts'
import type { ParsedRequest } from '../request/parsed-request.ts'
import { checkPromptSize } from '../request/prompt-size.ts'
import { planTools, type ToolPlan } from './tool-plan.ts'

export interface ToolChat extends ParsedRequest<ChatFields> {
  readonly tools: ToolPlan
}

export function parseToolChat(body: JsonObject, model: ModelInfo): ToolChat {
  const { fields, read, requests } = parseChat(body, model)
  try {
    const tools = planTools(fields, model, requests[0]!.constraint)
    const { shown, reading, constraint } = tools
    return {
      fields,
      read: { ...read, unused: [...tools.unused, ...read.unused] },
      tools,
      requests: requests.map((request) => {
        const { prompt, sampling } = request
        const asked =
          constraint === null ? request : { ...request, constraint, constraintField: 'tools' }
        if (prompt.kind !== 'messages' || shown.length === 0) return asked
        const withTools = { ...prompt, tools: shown }
        if (request.truncatePrompt === null) checkPromptSize(withTools, 'tools', model)
        // The marks of a call may be special tokens.
        const skipSpecialTokens = sampling.skipSpecialTokens && reading === null
        return {
          ...asked,
          prompt: withTools,
          sampling: { ...sampling, skipSpecialTokens },
        }
      }),
    }
  } catch (error) {
    throw spelledOut(error, read)
  }
}

/** The same, from a body that spells fields otherwise: an error names them as the client did. */
export function parseSpelledChat(body: JsonObject, model: ModelInfo, spelled: Spelling): ToolChat {
  try {
    return parseToolChat(body, model)
  } catch (error) {
    throw spelledOut(error, spelled)
  }
}
