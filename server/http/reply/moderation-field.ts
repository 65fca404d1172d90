// What was judged, in the shapes of OpenAI's moderation. A score is only told where it was measured: of
// `unsafe`, which is what a guard judges, and of the categories that a verdict named.

import type { JudgedText, SafetyCount } from './safety-field.ts'

/** OpenAI's thirteen. */
const moderationCategories = [
  'harassment',
  'harassment/threatening',
  'hate',
  'hate/threatening',
  'illicit',
  'illicit/violent',
  'self-harm',
  'self-harm/instructions',
  'self-harm/intent',
  'sexual',
  'sexual/minors',
  'violence',
  'violence/graphic',
] as const

type ModerationCategory = (typeof moderationCategories)[number]

/** MLCommons' hazards as Llama Guard 3 names them; S6, S7, S8 and S13 have no name at OpenAI. */
const hazards: Readonly<Record<string, readonly ModerationCategory[]>> = {
  S1: ['violence', 'illicit/violent'],
  S2: ['illicit'],
  S3: ['sexual'],
  S4: ['sexual', 'sexual/minors'],
  S5: ['harassment'],
  S9: ['violence', 'illicit/violent'],
  S10: ['hate'],
  S11: ['self-harm'],
  S12: ['sexual'],
  S14: ['illicit'],
}

/** One result; `unsafe` and the guard's own names stand beside OpenAI's. */
export function moderationResult({ score, flagged, categories }: JudgedText) {
  const found = new Set<string>(categories.flatMap((name) => [name, ...(hazards[name] ?? [])]))
  if (flagged) found.add('unsafe')
  const names = new Set<string>(['unsafe', ...moderationCategories, ...found])
  const scored = ['unsafe', ...[...found].filter((name) => name !== 'unsafe')]
  return {
    flagged,
    categories: Object.fromEntries([...names].map((name) => [name, found.has(name)])),
    category_scores: score === null ? {} : Object.fromEntries(scored.map((name) => [name, score])),
    category_applied_input_types: Object.fromEntries([...names].map((name) => [name, ['text']])),
  }
}

/** The answer's field, where `moderation` was asked for. */
export function moderationField(
  safety: SafetyCount,
  { n, choicesPerPrompt }: { readonly n: number; readonly choicesPerPrompt: number },
) {
  const indexes = Array.from({ length: n }, (_, index) => index)
  const prompts = indexes.filter((index) => index % choicesPerPrompt === 0)
  return {
    input: sideField(safety, prompts, 'input'),
    output: sideField(safety, indexes, 'output'),
  }
}

function sideField(safety: SafetyCount, indexes: readonly number[], side: 'input' | 'output') {
  const model = safety.guard?.id ?? ''
  const texts = indexes.map((index) => safety.textOf(index, side))
  if (texts.some(({ score }) => score === null)) {
    const what = side === 'input' ? 'the prompt' : 'the reply'
    return {
      type: 'error',
      code: 'not_judged',
      message: `${what} was not judged: nothing of it was there, or the guard gave no score`,
    }
  }
  const results = texts.map((text) => ({
    type: 'moderation_result',
    model,
    ...moderationResult(text),
  }))
  return { type: 'moderation_results', model, results }
}
