// One choice of a generation that a guard outside the engine judges: its text so far, which verdicts are
// due, and what may be told. Pure: verdicts are asked for and come back as calls.

import type { GenerationEvent } from '../contracts/generation.ts'
import type { JudgedPart, SafetyPlan, Verdict } from '../contracts/safety.ts'
import { createGate } from '../safety/gate.ts'
import { createTold } from '../safety/told.ts'
import type { GuardReading } from './llama-guard.ts'

type Delta = Extract<GenerationEvent, { kind: 'delta' }>
type Finish = Extract<GenerationEvent, { kind: 'choice_finished' }>

/** A verdict to be asked for. */
export interface DueVerdict {
  readonly part: JudgedPart
  readonly numTokens: number
  /** Deltas that it covers: text may also come without a token of its own. */
  readonly numDeltas: number
  /** The reply so far; null: the prompt alone. */
  readonly text: string | null
}

export interface JudgedChoiceOptions {
  readonly index: number
  readonly plan: SafetyPlan
  /** P(unsafe) from which text is flagged. */
  readonly threshold: number
}

export type JudgedChoice = ReturnType<typeof createJudgedChoice>

export function createJudgedChoice({ index, plan, threshold }: JudgedChoiceOptions) {
  const judgesReply = plan.reply !== 'off'
  const holds = plan.reply === 'block' || plan.reply === 'escalate'
  const gate = createGate({ holds })
  const { tell, told } = createTold()
  const waiting: DueVerdict[] = []
  let text = ''
  let numTokens = 0
  let numDeltas = 0
  /** Those that a verdict covers which is due or was. */
  let numCovered = 0
  let section: Delta['section'] | null = null
  let nextDue = plan.every
  let isAsked = false
  let awaitsInput = plan.input !== 'off'
  let end: Finish | null = null
  let isOver = false

  /** A later verdict covers an earlier one of the same part that nobody asked for yet. */
  function addDue(part: JudgedPart): void {
    if (waiting.at(-1)?.part === part) waiting.pop()
    waiting.push({ part, numTokens, numDeltas, text })
    numCovered = numDeltas
    nextDue = numTokens + plan.every
  }

  /** The end is told once nothing is due. */
  function finish(): readonly GenerationEvent[] {
    if (end === null || isOver || awaitsInput || isAsked || waiting.length > 0) return []
    isOver = true
    return [...tell(gate.pass(Number.POSITIVE_INFINITY)), end]
  }

  function stop(): readonly GenerationEvent[] {
    isOver = true
    gate.drop()
    waiting.length = 0
    const reason = 'content_filter'
    return [{ kind: 'choice_finished', index, reason, stopReason: null, usage: told() }]
  }

  function partNow(): JudgedPart {
    return section === 'reasoning' ? 'reasoning' : 'output'
  }

  return {
    get isOver() {
      return isOver
    },
    /** It was stopped while the engine still generates it. */
    get isAbandoned() {
      return isOver && end === null
    },
    /** The next verdict, where none is under way. */
    takeDue(): DueVerdict | undefined {
      if (isAsked || isOver) return undefined
      const due = waiting.shift()
      isAsked = due !== undefined
      return due
    },
    onDelta(event: Delta): readonly GenerationEvent[] {
      if (isOver) return []
      const endsThought = section === 'reasoning' && event.section === 'content'
      if (judgesReply && endsThought && text !== '') addDue('reasoning')
      text += endsThought ? `\n\n${event.text}` : event.text
      section = event.section
      numTokens += event.numTokens
      numDeltas += 1
      if (judgesReply && numTokens >= nextDue) addDue(partNow())
      return tell(gate.push([event], numDeltas))
    },
    onFinish(event: Finish): readonly GenerationEvent[] {
      if (isOver) return []
      end = event
      if (judgesReply && text !== '' && numCovered < numDeltas) addDue(partNow())
      return finish()
    },
    /** null: the guard gave no verdict. */
    onVerdict(due: DueVerdict, verdict: Verdict): readonly GenerationEvent[] {
      const event = { kind: 'verdict', index, ...verdict } as const
      const isInput = due.part === 'input'
      if (isInput) awaitsInput = false
      else isAsked = false
      const mode = isInput ? plan.input : plan.reply
      const isHeld = mode === 'block' || mode === 'escalate'
      const fails = verdict.flagged || (verdict.score === null && plan.failure === 'closed')
      if (isOver) return []
      if (isHeld && fails) return [event, ...stop()]
      return [event, ...tell(isInput ? [] : gate.pass(due.numDeltas)), ...finish()]
    },
    toVerdict(due: DueVerdict, reading: GuardReading | null, isCut: boolean): Verdict {
      const score = reading?.score ?? null
      return {
        part: due.part,
        scoredTokens: due.numTokens,
        score,
        flagged: score !== null && score >= threshold,
        threshold,
        // Nothing here measured it.
        certified: false,
        probe: null,
        skipped: score === null ? 'failed' : null,
        categories: reading?.categories ?? [],
        isCut,
      }
    },
  }
}
