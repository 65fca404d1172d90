// What a request says of live safety: the field `safety`, and OpenAI's `moderation`. They may stand
// together where they do not contradict each other.
//
//   safety: "block"   safety: {mode, input, output, every, threshold, adapter: "name[:strength]"}
//   moderation: {model, policy: {input: {mode: "score"|"block"}, output: {mode}}}

import { z } from 'zod'
import type { AdapterRef } from '../../contracts/adapter.ts'
import type { JsonObject } from '../../contracts/json.ts'
import { type SafetyMode, safetyModes } from '../../contracts/safety.ts'
import { parseAdapterSpec } from '../request/adapter-choice.ts'
import { knowsOnly, wrong } from '../request/field-error.ts'
import { parseFields } from '../request/parsed-request.ts'

/** Tokens between two verdicts. */
const mostJudgedEvery = 4096

const mode = z.enum(safetyModes)

const safetyObject = z.strictObject(
  {
    mode: mode.nullish().describe('Of prompt and reply'),
    input: mode.nullish().describe('Of the prompt, where it differs'),
    output: mode.nullish().describe('Of thought and answer, where it differs'),
    every: z
      .int()
      .min(1)
      .max(mostJudgedEvery)
      .nullish()
      .describe('A verdict after every so many tokens'),
    threshold: z.number().min(0).max(1).nullish().describe('P(unsafe) from which text is flagged'),
    adapter: z.string().max(128).nullish().describe('Of escalate: name[:strength]'),
  },
  knowsOnly('mode', 'input', 'output', 'every', 'threshold', 'adapter'),
)

const policyPart = z
  .strictObject({ mode: z.enum(['score', 'block']).nullish() }, knowsOnly('mode'))
  .nullish()

export const safetySchema = z.object({
  safety: z.union([mode, safetyObject]).nullish(),
  moderation: z
    .strictObject(
      {
        model: z.string().max(256),
        policy: z
          .strictObject({ input: policyPart, output: policyPart }, knowsOnly('input', 'output'))
          .nullish(),
      },
      knowsOnly('model', 'policy'),
    )
    .nullish(),
})

/** null: the request does not say. */
export interface SafetyAsk {
  readonly input: SafetyMode | null
  readonly reply: SafetyMode | null
  readonly every: number | null
  readonly threshold: number | null
  readonly escalation: AdapterRef | null
  /** Of `moderation`: its answer is wanted, of the guard under this name. */
  readonly moderationModel: string | null
  /** Whose scores are wanted at least; they do not ask for less than the server does. */
  readonly wantsScores: boolean
  /** Where what is asked stands; null: the request says nothing of safety. */
  readonly param: 'safety' | 'moderation' | null
}

/** One side of `safety` with the same side of `moderation`: block asks, score only wants to know. */
function together(
  name: 'input' | 'output',
  asked: SafetyMode | null,
  moderated: 'score' | 'block' | null,
): SafetyMode | null {
  if (moderated === null) return asked
  const holds = asked === 'block' || asked === 'escalate'
  if (asked === 'off' || (asked === 'observe' && moderated === 'block')) {
    throw wrong(
      `moderation.policy.${name}.mode`,
      `"${moderated}" and the ${asked} of safety contradict each other; send one of them`,
    )
  }
  return moderated === 'block' && !holds ? 'block' : asked
}

/** Throws ServerError at the first wrong field. */
export function parseSafety(body: JsonObject): SafetyAsk {
  const { safety, moderation } = parseFields(safetySchema, body)
  const fields = typeof safety === 'string' ? { mode: safety } : (safety ?? {})
  const { policy } = moderation ?? {}
  const scoreOf = (part: z.infer<typeof policyPart>) =>
    moderation == null ? null : (part?.mode ?? 'score')
  return {
    input: together('input', fields.input ?? fields.mode ?? null, scoreOf(policy?.input)),
    reply: together('output', fields.output ?? fields.mode ?? null, scoreOf(policy?.output)),
    every: fields.every ?? null,
    threshold: fields.threshold ?? null,
    escalation: fields.adapter == null ? null : parseAdapterSpec('safety.adapter', fields.adapter),
    moderationModel: moderation?.model ?? null,
    wantsScores: moderation != null,
    param: safety == null ? (moderation == null ? null : 'moderation') : 'safety',
  }
}
