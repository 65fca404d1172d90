// How a reply tells what its guard said: the field `safety`, and the header `x-safety`. Of each part the
// largest score is told.

import type { GenerationEvent } from '../../contracts/generation.ts'
import type {
  AppliedGuard,
  Escalation,
  JudgedPart,
  SafetyPlan,
  Verdict,
} from '../../contracts/safety.ts'
import { adapterField, shownDigits } from './applied-adapters.ts'

interface PartCount {
  readonly score: number | null
  readonly threshold: number | null
  readonly flagged: boolean
  readonly certified: boolean
}

/** What was said of one choice. */
interface ChoiceCount {
  readonly parts: Map<JudgedPart, PartCount>
  readonly categories: Set<string>
  probe: number | null
  /** With a score. */
  numVerdicts: number
  scoredTokens: number
  isTruncated: boolean
  numFailures: number
  /** Of the reply, the last, and what its part was before it. */
  last: { readonly verdict: Verdict; readonly before: PartCount | undefined } | null
  escalation: { readonly event: Escalation; readonly because: Verdict | null } | null
}

/** A part as the answer of `moderation` needs it. */
export interface JudgedText {
  /** null: it was not judged, or could not be. */
  readonly score: number | null
  readonly flagged: boolean
  readonly categories: readonly string[]
}

export type SafetyCount = ReturnType<typeof createSafetyCount>

/** `n`: choices of the answer. `plan` null: nothing is judged. */
export function createSafetyCount(plan: SafetyPlan | null, n: number) {
  const choices = plan === null ? [] : Array.from({ length: n }, emptyCount)
  let guard: AppliedGuard | null = null

  function fieldOf(index: number) {
    if (plan === null || guard === null) return null
    return { ...modesOf(plan), ...choiceField(choices[index]!), ...settingsOf(plan, guard) }
  }

  return {
    isOn: plan !== null,
    get guard() {
      return guard
    },
    count(event: GenerationEvent): void {
      if (event.kind === 'accepted') guard = event.guard
      if (plan === null) return
      if (event.kind === 'verdict') countVerdict(choices[event.index]!, event)
      else if (event.kind === 'escalated') countEscalation(choices[event.index]!, event)
    },
    fieldOf,
    /** What a choice of a whole answer has beside its text. */
    ofChoice: (index: number) => (plan === null ? {} : { safety: fieldOf(index) }),
    /** input: the prompt; output: thought and answer together. */
    textOf(index: number, side: 'input' | 'output'): JudgedText {
      const { parts, categories } = choices[index] ?? emptyCount()
      const names = side === 'input' ? (['input'] as const) : (['reasoning', 'output'] as const)
      const found = names.flatMap((name) => parts.get(name) ?? [])
      const scores = found.flatMap(({ score }) => score ?? [])
      return {
        score: scores.length === 0 ? null : Math.max(...scores),
        flagged: found.some(({ flagged }) => flagged),
        categories: found.some(({ flagged }) => flagged) ? [...categories] : [],
      }
    },
  }
}

function emptyCount(): ChoiceCount {
  return {
    parts: new Map(),
    categories: new Set(),
    probe: null,
    numVerdicts: 0,
    scoredTokens: 0,
    isTruncated: false,
    numFailures: 0,
    last: null,
    escalation: null,
  }
}

function largest(one: number | null, other: number | null): number | null {
  if (one === null || other === null) return one ?? other
  return Math.max(one, other)
}

function countVerdict(choice: ChoiceCount, verdict: Verdict): void {
  const { part, score, flagged, certified, skipped } = verdict
  const before = choice.parts.get(part)
  choice.last = { verdict, before }
  choice.parts.set(part, {
    score: largest(before?.score ?? null, score),
    threshold: verdict.threshold,
    flagged: flagged || (before?.flagged ?? false),
    certified: certified && (before?.certified ?? true),
  })
  choice.probe = largest(choice.probe, verdict.probe)
  if (skipped === 'failed') choice.numFailures += 1
  if (skipped === 'truncated' || verdict.isCut) choice.isTruncated = true
  for (const category of verdict.categories ?? []) choice.categories.add(category)
  if (score === null) return
  choice.numVerdicts += 1
  choice.scoredTokens = Math.max(choice.scoredTokens, verdict.scoredTokens)
}

/** The text of the last verdict was dropped: no part of the answer has its score. */
function countEscalation(choice: ChoiceCount, event: Escalation): void {
  const { verdict = null, before } = choice.last ?? {}
  choice.escalation = { event, because: verdict }
  choice.scoredTokens = event.keptTokens
  // The prompt is what it was.
  if (verdict === null || verdict.part === 'input') return
  if (before === undefined) choice.parts.delete(verdict.part)
  else choice.parts.set(verdict.part, before)
}

function modesOf({ input, reply }: SafetyPlan) {
  return { mode: reply, input_mode: input }
}

function choiceField(choice: ChoiceCount) {
  const { escalation, categories } = choice
  const partOf = (name: JudgedPart) => choice.parts.get(name) ?? null
  return {
    input: partOf('input'),
    reasoning: partOf('reasoning'),
    output: partOf('output'),
    ...(categories.size === 0 ? {} : { categories: [...categories] }),
    probe: choice.probe,
    verdicts: choice.numVerdicts,
    failures: choice.numFailures,
    scored_tokens: choice.scoredTokens,
    truncated: choice.isTruncated,
    escalated: escalation && escalatedField(escalation),
  }
}

function escalatedField({ event, because }: Exclude<ChoiceCount['escalation'], null>) {
  return {
    kept_tokens: event.keptTokens,
    dropped_tokens: event.droppedTokens,
    because: because && { part: because.part, score: because.score },
    adapter: adapterField(event.adapters),
  }
}

function settingsOf(plan: SafetyPlan, guard: AppliedGuard) {
  const { kind, id, digest, certified } = guard
  return {
    every: plan.every,
    threshold: plan.threshold ?? guard.threshold,
    guard: { kind, id, digest: digest?.slice(0, shownDigits) ?? null, certified },
  }
}

/** `observe; guard=<id>@<12 digits>`, or `off`. */
export function safetyHeader(plan: SafetyPlan | null, guard: AppliedGuard | null): string {
  if (plan === null || guard === null) return 'off'
  const { input, reply } = plan
  const mode = input === reply ? reply : `${reply}; input=${input}`
  const version = guard.digest === null ? '' : `@${guard.digest.slice(0, shownDigits)}`
  return `${mode}; guard=${guard.id}${version}${guard.certified ? '' : '; certified=false'}`
}
