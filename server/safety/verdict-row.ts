// Which row gives the next verdict: the reply's own, or another that reads its text once more on the base.
// Pure.

import { baseCarrier, type Carrier, type createJudge } from './judge.ts'

export interface VerdictRowOptions {
  readonly judge: ReturnType<typeof createJudge>
  /** What the reply's first `numTokens` tokens ran with; 0: what the prompt did. */
  readonly carrierAt: (numTokens: number) => Carrier
}

export function createVerdictRow({ judge, carrierAt }: VerdictRowOptions) {
  const { schedule } = judge
  /** Another row reads the text of the next verdict. */
  let isReading = false

  function carrierOfHead(): Carrier {
    return carrierAt(schedule.head!.numTokens)
  }

  /** The next verdict is given by another row, which reads the text on the base. */
  function readsAnew(): boolean {
    return schedule.head !== undefined && judge.readsAnew(carrierOfHead())
  }

  return {
    /** The text of the next verdict is being read on the base. */
    get isReading() {
      return isReading
    },

    /** Place of the verdict that the own row can give, with `numComputed` tokens of the reply computed. */
    dueAt(numComputed: number): number | null {
      return judge.isDue(numComputed) && !readsAnew() ? schedule.head!.numTokens : null
    },

    /** The own row can wait for no more company; after the reply's end it waits for none. */
    isPressing(numComputed: number, hasEnded: boolean): boolean {
      if (readsAnew()) return false
      return hasEnded ? judge.isDue(numComputed) : judge.isPressing(numComputed)
    },

    /** Tokens of the reply that another row shall read now; null: none, or one does already. */
    takeReading(): number | null {
      if (isReading || !readsAnew()) return null
      isReading = true
      return schedule.head!.numTokens
    },

    /** The next verdict is there: what its text ran with in the row that gave it. */
    takeCarrier(): Carrier {
      isReading = false
      return readsAnew() ? baseCarrier : carrierOfHead()
    },
  }
}
