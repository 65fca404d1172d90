// The sessions that a runner runs its graphs in: one for all, or a second one for verdicts over the
// same weights.

import type { LinearModule } from '../contracts/checkpoint.ts'
import type { WeightPlacement } from '../graph/encoding.ts'
import { type Accelerator, openSession, type Session } from '../runtime/session.ts'
import { shareWeights } from '../runtime/shared-weights.ts'

/** Over the weights of the runner's other graph, with the guard's sites instead and without a probe. */
export interface VerdictGraph {
  readonly graphPath: string
  readonly sites: readonly LinearModule[]
  readonly weights: { readonly folder: string; readonly placements: readonly WeightPlacement[] }
}

export interface SessionsOptions {
  readonly graphPath: string
  readonly threads: number
  /** null: the CPU. */
  readonly accelerator: Accelerator | null
  /** null: verdicts run in the main graph. */
  readonly verdicts: VerdictGraph | null
}

export interface Sessions {
  readonly main: Session
  /** The verdicts' own; null: there is none. */
  readonly aside: Session | null
  release(): void
}

/** Loads the graphs. Blocks while it does. */
export function openSessions(options: SessionsOptions): Sessions {
  const { graphPath, threads, accelerator, verdicts } = options
  const weights = verdicts && shareWeights(verdicts.weights.folder, verdicts.weights.placements)
  const main = openSession({ graph: graphPath, threads, accelerator, weights })
  // Sites cost every step a little even while nothing uses them: verdicts have them to themselves.
  const aside =
    verdicts &&
    openSession({
      ...{ graph: verdicts.graphPath, threads, accelerator, weights, isAside: true },
    })
  weights?.settle()
  return {
    main,
    aside,
    release() {
      aside?.release()
      main.release()
      weights?.release()
    },
  }
}
