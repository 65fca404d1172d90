// What is judged of one request: what it asks for, the operator's flags, and the guard that there is,
// in one pure function. No request gets less than --safety; escalate and block count as equally strong,
// because neither sends flagged text.

import type { AdapterRef } from '../../contracts/adapter.ts'
import type { GuardInfo, SafetyMode, SafetyPlan } from '../../contracts/safety.ts'
import { ServerError } from '../../errors.ts'
import { wrong } from '../request/field-error.ts'
import { quote } from '../request/quote.ts'
import type { SafetyAsk } from './safety-fields.ts'

/** The operator's flags. */
export interface SafetyFlags {
  /** null: not given; then observe, and only the mode has a minimum. */
  readonly safety: SafetyMode | null
  readonly policyFloor: 'refuse' | 'raise'
  readonly guardFailure: 'open' | 'closed'
  readonly judgeEvery: number
  readonly safetyThreshold: number | null
  readonly escalateAdapter: AdapterRef | null
}

/** The flags, with the minimum that holds for the request. */
export interface SafetyPolicy extends SafetyFlags {
  /** Whose minimum it is. */
  readonly safetyBy: 'flags' | 'key'
}

const sources = { flags: '--safety', key: '--keys-file' }

const strengths: Readonly<Record<SafetyMode, number>> = {
  off: 0,
  observe: 1,
  block: 2,
  escalate: 2,
}

/** null: nothing is judged. Throws policy_floor where less is asked than must be. */
export function decideSafety(
  ask: SafetyAsk,
  policy: SafetyPolicy,
  guard: GuardInfo | null,
): SafetyPlan | null {
  // 1. Who judges.
  if (guard === null) return withoutGuard(ask, policy)
  checkModel(ask.moderationModel, 'moderation.model', guard)

  // 2. How, and not less than the minimum.
  const input = modeOf(ask.input, 'safety.input', ask, policy)
  const reply = modeOf(ask.reply, 'safety.output', ask, policy)
  const escalation = escalationOf([input, reply].includes('escalate'), ask, policy, guard)
  if (input === 'off' && reply === 'off') return null
  const mostThreshold = policy.safetyThreshold ?? guard.threshold
  const keepsThreshold = isWithin('threshold', ask.threshold, mostThreshold, policy)
  const keepsEvery = isWithin('every', ask.every, policy.judgeEvery, policy)
  return {
    input,
    reply,
    every: (keepsEvery ? ask.every : null) ?? policy.judgeEvery,
    // null: each carrier has the one that the guard was calibrated to on it.
    threshold: keepsThreshold ? ask.threshold : policy.safetyThreshold,
    ...(keepsThreshold && hasFloor(policy) && policy.safetyThreshold === null
      ? { isThresholdCap: true }
      : {}),
    escalation,
    failure: policy.guardFailure,
  }
}

function withoutGuard(
  { input, reply, param }: SafetyAsk,
  { safety, safetyBy }: SafetyPolicy,
): null {
  // Its start needs one: it is gone since.
  if (safety !== null && safety !== 'off') {
    throw new ServerError(
      'guard_unavailable',
      `every request here is judged (${safetyBy === 'key' ? '--keys-file' : '--safety'}: ${safety}), and there is no guard now; try again`,
    )
  }
  if (param === null || (param === 'safety' && input === 'off' && reply === 'off')) return null
  throw wrong(
    param,
    'needs a guard, and this server has none (--guard); leave it out',
    'unsupported_value',
  )
}

/** OpenAI's own names mean whatever judges here. */
export function checkModel(model: string | null, param: string, { id }: GuardInfo): void {
  if (model === null || model === id || /^(omni|text)-moderation-/.test(model)) return
  throw new ServerError(
    'model_not_found',
    `the guard here is ${quote(id)}; got ${quote(model)}; "omni-moderation-latest" means it, too`,
    { param },
  )
}

function modeOf(
  asked: SafetyMode | null,
  param: string,
  { wantsScores }: SafetyAsk,
  policy: SafetyPolicy,
): SafetyMode {
  const least = policy.safety ?? 'observe'
  const mode = asked ?? (wantsScores && least === 'off' ? 'observe' : least)
  if (strengths[mode] >= strengths[least]) return mode
  if (policy.policyFloor === 'raise') return least
  throw belowFloor(param, `must be at least ${least} (${sources[policy.safetyBy]}); got ${mode}`)
}

function hasFloor({ safety }: SafetyPolicy): boolean {
  return safety !== null && safety !== 'off'
}

/**
 * False: the operator's number counts. A larger one is a weaker judge: under a minimum that the operator
 * gave, none may be asked for.
 */
function isWithin(
  name: 'every' | 'threshold',
  asked: number | null,
  most: number | null,
  policy: SafetyPolicy,
): boolean {
  if (asked === null) return false
  if (!hasFloor(policy) || most === null || asked <= most) return true
  if (policy.policyFloor === 'raise') return false
  const flag = name === 'every' ? '--judge-every' : '--safety-threshold'
  throw belowFloor(`safety.${name}`, `must be ≤ ${most} (${flag}); got ${asked}`)
}

function belowFloor(param: string, message: string): ServerError {
  return new ServerError('policy_floor', `${param} ${message}; leave it out (--policy-floor)`, {
    param,
  })
}

function escalationOf(
  isWanted: boolean,
  { escalation: asked }: SafetyAsk,
  policy: SafetyPolicy,
  guard: GuardInfo,
): AdapterRef | null {
  const own = policy.escalateAdapter
  if (!isWanted) {
    if (asked === null) return null
    throw wrong('safety.adapter', 'is only allowed with "escalate"')
  }
  if (guard.kind === 'url') {
    throw wrong(
      'safety',
      'cannot be escalate with a guard behind an address (--guard); ask for block',
      'unsupported_value',
    )
  }
  if (asked === null) {
    if (own !== null) return own
    throw wrong('safety.adapter', 'must name what a flagged reply goes on with; it is missing')
  }
  if (own === null || policy.safety !== 'escalate') return asked
  // The operator chose what flagged replies go on with: another or a weaker one is less.
  const isSame = asked.id === own.id
  const isAsStrong = asked.scale === null || (own.scale !== null && asked.scale >= own.scale)
  if (isSame && isAsStrong) return asked.scale === null ? own : asked
  if (policy.policyFloor === 'raise') return own
  throw belowFloor('safety.adapter', `must be ${quote(own.id)} and as strong as --escalate-adapter`)
}
