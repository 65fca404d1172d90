// Verdicts of a guard that an upstream computes: the conversation and the guard's token, read with the
// guard's adapter from the first token on. That is another computation than ours on shared keys and values,
// and costs a prefill: no measure of the guard covers it.

import type { LabelLogits, LoadedGuard } from '../safety/guard.ts'
import type { AdapterSet } from './adapter-content.ts'
import { verdictBody } from './completion-request.ts'
import { requireSameModel } from './failure.ts'
import type { Pool } from './pool.ts'
import { parseVerdict } from './wire.ts'

export interface Verdicts {
  /** `tokens`: those that it covers. Rejects as `Pool.use`. */
  ask(tokens: readonly number[], client: string, signal: AbortSignal): Promise<LabelLogits>
}

/** What acts on a verdict. */
export function setOfGuard({ info, components }: LoadedGuard): AdapterSet {
  if (info.digest === null) throw new Error('a guard behind an address is asked elsewhere')
  return { applied: [{ id: info.id, digest: info.digest, scale: 1 }], components }
}

export function createVerdicts(pool: Pool, guard: LoadedGuard): Verdicts {
  const set = setOfGuard(guard)
  const { safe, unsafe } = guard.labels
  return {
    async ask(tokens, client, signal) {
      const { value, release } = await pool.use(
        set,
        client,
        signal,
        ({ transport }) =>
          async (model, signal) => {
            const body = verdictBody(model, [...tokens, guard.token], [safe, unsafe])
            const path = '/v1/completions'
            const text = await transport.text({ method: 'POST', path, body, signal })
            const verdict = parseVerdict(text)
            requireSameModel(verdict.model, model)
            return verdict.logprobs
          },
      )
      release()
      return value
    },
  }
}

/** No measure covers how an upstream reads it. */
export function uncertified(guard: LoadedGuard): LoadedGuard {
  return {
    ...guard,
    info: { ...guard.info, hasProbe: false },
    calibrationOf: (applied, part) => ({ ...guard.calibrationOf(applied, part), certified: false }),
    probe: null,
  }
}
