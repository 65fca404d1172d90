// The adapter rows of each kind of step: each kind has its own, so that none lays out another's anew.

import type { LinearModule } from '../contracts/checkpoint.ts'
import { type AdapterRowsOptions, createAdapterRows } from './adapter-rows.ts'

export interface StepAdaptersOptions
  extends Required<Pick<AdapterRowsOptions, 'config' | 'sites' | 'target' | 'device'>> {
  /** Most rows of a decode step. */
  readonly rows: number
  readonly verdictSites: readonly LinearModule[]
  readonly numVerdictRows: number
}

export function createStepAdapters(options: StepAdaptersOptions) {
  const { config, sites, target, device, rows, verdictSites, numVerdictRows } = options
  const shared = { config, target, device }
  const decode = createAdapterRows({ ...shared, sites, rows, minWidth: 1 })
  // ONNX Runtime multiplies several tokens with a lone vector in another kernel, whose rounding
  // depends on their number; with two vectors every token comes out the same in any chunk.
  const minWidth = target.kernels === 'own' ? 1 : 2
  const prefill = createAdapterRows({ ...shared, sites, rows: 1, minWidth })
  const verdict = createAdapterRows({
    ...{ ...shared, sites: verdictSites, rows: numVerdictRows, minWidth: 1 },
  })
  return {
    decode,
    /** Of one row. */
    prefill,
    verdict,
    release(): void {
      for (const adapters of [decode, prefill, verdict]) adapters.release()
    },
  }
}
