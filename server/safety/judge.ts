// What a verdict says and what it allows, by a request's plan. Pure.

import type { AppliedAdapter } from '../contracts/adapter.ts'
import type { JudgedPart, SafetyMode, SafetyPlan, Verdict } from '../contracts/safety.ts'
import { type Calibration, type LabelLogits, type LoadedGuard, probabilityOf } from './guard.ts'
import { createSchedule, type DueVerdict } from './schedule.ts'

export interface JudgeOptions {
  /** Null: nothing is judged. */
  readonly plan: SafetyPlan | null
  /** Null: there is none, and what is to be judged cannot be. */
  readonly guard: LoadedGuard | null
}

/** What a part of the text ran with. */
export interface Carrier {
  readonly applied: readonly AppliedAdapter[]
  /** All of the text did. */
  readonly isWhole: boolean
}

/** What a text runs with that is read once more. */
export const baseCarrier: Carrier = { applied: [], isWhole: true }

const judgesNothing: SafetyPlan = {
  input: 'off',
  reply: 'off',
  every: 1,
  threshold: null,
  escalation: null,
  failure: 'open',
}

export function createJudge({ plan, guard }: JudgeOptions) {
  const { input, reply, every, failure, ...asked } = plan ?? judgesNothing
  const schedule = createSchedule({
    judgesInput: input !== 'off',
    judgesReply: reply !== 'off',
    every,
    probeThreshold: guard?.probe?.threshold ?? null,
  })

  function modeOf({ part }: DueVerdict): SafetyMode {
    return part === 'input' ? input : reply
  }

  /** It was measured on text of which all positions had these adapters. */
  function isCertified({ applied, isWhole }: Carrier, part: JudgedPart): boolean {
    return isWhole && (guard?.calibrationOf(applied, part).certified ?? false)
  }

  function scoreOf(logits: LabelLogits, { temperature }: Calibration): number | null {
    const score = probabilityOf(logits, guard!.labels, temperature)
    return Number.isFinite(score) ? score : null
  }

  function thresholdOf(calibration: Calibration | null): number | null {
    const own = calibration?.threshold ?? null
    const { threshold, isThresholdCap } = asked
    if (threshold === null || own === null) return threshold ?? own
    return isThresholdCap ? Math.min(threshold, own) : threshold
  }

  /** Computed tokens after its place while which a verdict may wait for company. */
  function patienceOf(verdict: DueVerdict): number {
    if (!holdsBack(modeOf(verdict))) return every - 1
    return verdict.part === 'input' ? 0 : Math.floor(every / 4)
  }

  return {
    schedule,
    /** Text waits until it is judged, or until the prompt is. */
    holds: holdsBack(input) || holdsBack(reply),
    holdsReply: holdsBack(reply),

    /** The head of the schedule can be given. */
    isDue(numComputed: number): boolean {
      return schedule.head !== undefined && schedule.head.numTokens <= numComputed
    },
    /** And waits for no more company. */
    isPressing(numComputed: number): boolean {
      const { head, second } = schedule
      if (head === undefined || head.numTokens > numComputed) return false
      if (head.isUrgent || (second !== undefined && second.numTokens <= numComputed)) return true
      return numComputed - head.numTokens >= patienceOf(head)
    },

    /** w · h of the last of the reply's first `numTokens` tokens; 0: of the prompt's last. */
    acceptProbe(numTokens: number, product: number, part: 'reasoning' | 'output'): void {
      if (plan === null || guard === null || guard.probe === null) return
      schedule.addProbe(numTokens, guard.probe.toScore(product), part)
    },

    /** The head's text is to be read on the base: what it ran with was not measured, and the base was. */
    readsAnew(carrier: Carrier): boolean {
      const { head } = schedule
      if (head === undefined || !guard?.isExact) return false
      return !isCertified(carrier, head.part) && isCertified(baseCarrier, head.part)
    },

    /**
     * Takes the head of the schedule. `logits` after the guard's token; null: there are none,
     * for the `reason`. `follows`: what the plan wants done.
     */
    conclude(
      carrier: Carrier,
      logits: LabelLogits | null,
      reason: Exclude<Verdict['skipped'], null>,
    ): { verdict: Verdict; follows: 'pass' | 'block' | 'escalate' } {
      const head = schedule.take()
      const { part, numTokens: scoredTokens, probe } = head
      const calibration = guard?.calibrationOf(carrier.applied, part) ?? null
      const score = logits && calibration && scoreOf(logits, calibration)
      const threshold = thresholdOf(calibration)
      const flagged = score !== null && threshold !== null && score >= threshold
      const certified = isCertified(carrier, part)
      const skipped = score === null ? reason : null
      const told = { score, flagged, threshold, certified, probe, skipped }
      const verdict = { part, scoredTokens, ...told }
      const mode = modeOf(head)
      const isRefused = flagged || (score === null && failure === 'closed')
      if (!isRefused || !holdsBack(mode)) return { verdict, follows: 'pass' }
      return { verdict, follows: flagged && mode === 'escalate' ? 'escalate' : 'block' }
    },
  }
}

function holdsBack(mode: SafetyMode): boolean {
  return mode === 'block' || mode === 'escalate'
}
