// The flags of live safety: who judges, how, and what no request may go below. docs/SAFETY.md says what
// they mean together.

import type { AdapterRef, RequiredAdapter } from './contracts/adapter.ts'
import type { EngineOptions } from './contracts/engine.ts'
import { type KeyFloor, type SafetyMode, safetyModes } from './contracts/safety.ts'
import { ServerError } from './errors.ts'
import { flag, setting } from './flag-schema.ts'
import {
  adapterStrength,
  type GuardChoice,
  guardChoice,
  integer,
  oneOf,
  onOff,
  positiveDuration,
  share,
  text,
} from './flag-values.ts'

export const safetyFlags = {
  safety: flag(oneOf(safetyModes), {
    value: '<mode>',
    default: null,
    shownDefault: 'observe where there is a guard',
    description:
      'off, observe (scores are told), block (flagged text is never sent) or escalate (it is said again, with --escalate-adapter); the default of requests and their minimum',
  }),
  policyFloor: setting(oneOf(['refuse', 'raise']), {
    value: '<refuse|raise>',
    default: 'refuse',
    description: 'What happens to a request that asks for less: 403, or it gets the minimum',
  }),
  guard: setting(guardChoice, {
    value: '<auto|none|adapter:id|url>',
    default: 'auto',
    description:
      "Who judges: the adapters folder's guard, none, the one of that name, or an OpenAI-compatible server that runs Llama Guard",
  }),
  guardModel: flag(text, {
    value: '<id>',
    default: null,
    description: 'The model that the guard behind an address is asked for',
  }),
  guardKeyFile: flag(text, {
    value: '<file>',
    default: null,
    description: 'File of the bearer key of the guard behind an address',
  }),
  guardTimeout: setting(positiveDuration, {
    value: '<duration>',
    default: '10s',
    description: 'Deadline of one verdict of the guard behind an address, waiting included',
  }),
  guardFailure: setting(oneOf(['open', 'closed']), {
    value: '<open|closed>',
    default: 'closed',
    description:
      'Text that cannot be judged, in block and escalate: open sends it, closed does not',
  }),
  guardExact: setting(onOff, {
    value: '<on|off>',
    default: 'off',
    description:
      'Text that ran with adapters on which the guard was not measured is read once more without them, and judged so',
  }),
  judgeEvery: setting(integer(1, 4096), {
    value: '<tokens>',
    default: '32',
    description: 'A verdict after every so many tokens of a reply',
  }),
  safetyThreshold: flag(share, {
    value: '<0–1>',
    default: null,
    shownDefault: "guard's",
    description: 'P(unsafe) from which text is flagged',
  }),
  escalateAdapter: flag(adapterStrength, {
    value: '<id[:strength]>',
    default: null,
    description: 'What a flagged reply goes on with in escalate',
  }),
  begunAnswers: flag(oneOf(['refuse', 'allow']), {
    value: '<refuse|allow>',
    default: null,
    shownDefault: 'refuse with --require-adapter, --safety block or escalate',
    description:
      'Requests that write the beginning of the answer: a last message of the assistant, and /v1/completions',
  }),
}

/** What the flags above say, and what they depend on. */
interface SafetyFlags {
  readonly safety: SafetyMode | null
  readonly guard: GuardChoice
  readonly guardModel: string | null
  readonly guardKeyFile: string | null
  readonly escalateAdapter: AdapterRef | null
  readonly begunAnswers: 'refuse' | 'allow' | null
  readonly requireAdapter: RequiredAdapter | null
}

function contradiction(flagName: string, message: string): ServerError {
  return new ServerError('invalid_config', `--${flagName} ${message}`)
}

/** Throws where flags contradict one another. */
export function checkSafetyFlags<Flags extends SafetyFlags>(flags: Flags): Flags {
  const { safety, guard } = flags
  if (guard.kind === 'url') {
    if (flags.guardModel === null) {
      throw contradiction('guard-model', 'must name the model of the guard at the address')
    }
  } else {
    for (const name of ['guardModel', 'guardKeyFile'] as const) {
      const shown = name === 'guardModel' ? 'guard-model' : 'guard-key-file'
      if (flags[name] !== null) throw contradiction(shown, 'needs an address in --guard')
    }
  }
  const lacking = lackingFor(safety, flags)
  if (lacking !== null) throw contradiction('safety', lacking)
  return flags
}

/** What a minimum needs and the flags do not give; null: nothing. */
function lackingFor(safety: SafetyMode | null, flags: SafetyFlags): string | null {
  const { guard, escalateAdapter } = flags
  if (guard.kind === 'url' && safety === 'escalate') {
    return 'escalate needs a guard of the adapters folder (--guard adapter:<id>); got an address'
  }
  if (guard.kind === 'none' && safety !== null && safety !== 'off') {
    return `${safety} needs a guard; got --guard none`
  }
  return safety === 'escalate' && escalateAdapter === null
    ? 'escalate needs --escalate-adapter'
    : null
}

/** Throws where the flags cannot hold what a key of --keys-file says. */
export function checkKeyFloors(
  flags: SafetyFlags,
  keys: readonly { readonly name: string; readonly floor: KeyFloor }[],
): void {
  for (const { name, floor } of keys) {
    const lacking = lackingFor(floor.safety, flags)
    if (lacking !== null) throw contradiction('keys-file', `safety of "${name}": ${lacking}`)
  }
}

/** Whose guard the engine runs: none where one behind an address judges. */
export function guardOption(guard: GuardChoice): EngineOptions['guard'] {
  if (guard.kind === 'adapter') return { id: guard.id }
  return guard.kind === 'auto' ? 'auto' : 'none'
}
