// Attributes of OpenTelemetry's events, by its conventions for generative AI; what those have no name for
// begins with `dutyfree.`. Pure.

import type { FinishedRequest, JudgedRequest } from '../contracts/observer.ts'

type Value = string | number | boolean | string[]
export type EventAttributes = Readonly<Record<string, Value>>

/** Of one verdict. One that was not given has no score, and says why. */
export function evaluationOf(event: JudgedRequest, model: string | null): EventAttributes {
  const { part, score, flagged, threshold, certified, scoredTokens, skipped } = event.verdict
  return {
    'gen_ai.evaluation.name': `safety.${part}`,
    ...(score === null
      ? { 'error.type': skipped ?? '_OTHER' }
      : {
          'gen_ai.evaluation.score.value': score,
          'gen_ai.evaluation.score.label': flagged ? 'unsafe' : 'safe',
        }),
    ...responseOf(event, model),
    'dutyfree.choice': event.index,
    'dutyfree.guard': event.guard ?? 'none',
    'dutyfree.safety.certified': certified,
    'dutyfree.safety.scored_tokens': scoredTokens,
    ...(threshold === null ? {} : { 'dutyfree.safety.threshold': threshold }),
  }
}

/** Outcomes that are a reason to finish; any other is an error's code, or that the client left. */
const finishReasons = ['stop', 'length', 'content_filter']

/** Of one request, all its choices. */
export function operationOf(event: FinishedRequest, model: string | null): EventAttributes {
  const { outcome, promptTokens, cachedTokens, completionTokens, responseId } = event
  const isFinished = finishReasons.includes(outcome)
  return {
    'gen_ai.operation.name': responseId.startsWith('chatcmpl') ? 'chat' : 'text_completion',
    ...responseOf(event, model),
    ...(isFinished ? { 'gen_ai.response.finish_reasons': [outcome] } : { 'error.type': outcome }),
    'gen_ai.usage.input_tokens': promptTokens,
    'gen_ai.usage.cache_read.input_tokens': cachedTokens,
    'gen_ai.usage.output_tokens': completionTokens,
  }
}

function responseOf(
  { responseId, adapter }: Pick<JudgedRequest, 'responseId' | 'adapter'>,
  model: string | null,
): EventAttributes {
  return {
    'gen_ai.response.id': responseId,
    ...(model === null ? {} : { 'gen_ai.response.model': model }),
    'dutyfree.adapter': adapter,
  }
}
