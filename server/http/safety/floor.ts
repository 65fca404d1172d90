// What no request goes below: what the flags say, and what the key that asks says. The stricter of both
// holds, so that a key never widens what the flags allow. Every route asks here, and nowhere else.

import type { RequiredAdapter, RequiredBy } from '../../contracts/adapter.ts'
import { type KeyFloor, type SafetyMode, safetyModes } from '../../contracts/safety.ts'
import type { SafetyFlags, SafetyPolicy } from './safety-plan.ts'

interface FloorFlags extends SafetyFlags {
  readonly requireAdapter: RequiredAdapter | null
  /** null: refused where there is another minimum. */
  readonly begunAnswers: 'refuse' | 'allow' | null
}

export interface Floor {
  readonly safety: SafetyPolicy
  /** Each of them must act; one adapter may be there twice. */
  readonly required: readonly RequiredBy[]
  /** Requests may write the beginning of the answer. */
  readonly allowsBegunAnswers: boolean
}

/** `ofKey`: null where no key is needed. */
export function floorOf(flags: FloorFlags, ofKey: KeyFloor | null): Floor {
  const safety = stricter(flags.safety, ofKey?.safety ?? null)
  return {
    safety: { ...flags, safety, safetyBy: safety === flags.safety ? 'flags' : 'key' },
    required: [...requiredBy('flags', flags), ...(ofKey === null ? [] : requiredBy('key', ofKey))],
    allowsBegunAnswers: allowsBegun(flags) && (ofKey === null || allowsBegun(ofKey)),
  }
}

/** Without --safety a guard that is there observes: less than that no key can say. */
function stricter(ofFlags: SafetyMode | null, ofKey: SafetyMode | null): SafetyMode | null {
  if (ofKey === null || (ofFlags === null && ofKey === 'off')) return ofFlags
  if (ofFlags === null) return ofKey
  return safetyModes.indexOf(ofKey) > safetyModes.indexOf(ofFlags) ? ofKey : ofFlags
}

function requiredBy(
  by: RequiredBy['by'],
  { requireAdapter }: Pick<KeyFloor, 'requireAdapter'>,
): readonly RequiredBy[] {
  return requireAdapter === null ? [] : [{ ...requireAdapter, by }]
}

function allowsBegun({ safety, requireAdapter, begunAnswers }: KeyFloor): boolean {
  if (begunAnswers !== null) return begunAnswers === 'allow'
  return requireAdapter === null && safety !== 'block' && safety !== 'escalate'
}
