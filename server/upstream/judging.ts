// The verdicts of one choice, one after the other, beside its stream.

import type { Jobs } from '../loop/jobs.ts'
import type { Sequence } from '../loop/sequence.ts'
import type { LabelLogits } from '../safety/guard.ts'
import type { Verdicts } from './verdicts.ts'

export interface JudgingOptions {
  /** All are told what the first is judged for. */
  readonly members: readonly [Sequence, ...Sequence[]]
  readonly jobs: Pick<Jobs, 'tell'>
  readonly verdicts: Verdicts | null
  /** What was said may no longer stand, or nothing more is told: the stream is not wanted. */
  readonly onTurn: () => void
  readonly onTold: () => void
  readonly signal: AbortSignal
}

export interface Judging {
  /** Asks for what is due, unless that is under way. */
  begin(): void
  /** Resolves when nothing is due; rejects with what ended it. */
  settled(): Promise<void>
}

export function createJudging(options: JudgingOptions): Judging {
  const { members, jobs, verdicts, onTurn, onTold, signal } = options
  const [lead] = members
  let running: Promise<void> | null = null
  let fault: unknown = null

  async function judgeDue(): Promise<void> {
    for (let at = lead.verdictAt; at !== null; at = lead.verdictAt) {
      const logits = await ask(lead.tokens(0, at))
      signal.throwIfAborted()
      let move: 'on' | 'back' | 'anew' = 'on'
      for (const member of members) {
        const judged = member.judge(logits)
        jobs.tell(member, judged.events)
        move = judged.move
      }
      onTold()
      // What comes after is said with other adapters, or not at all.
      if (move !== 'on' || lead.isFinished) return onTurn()
    }
  }

  /** null: the guard gave none, which ends no stream. */
  async function ask(tokens: readonly number[]): Promise<LabelLogits | null> {
    try {
      return (await verdicts?.ask(tokens, lead.request.turn.client, signal)) ?? null
    } catch (error) {
      signal.throwIfAborted()
      console.error(`the guard gave no verdict: ${(error as Error).message}`)
      return null
    }
  }

  function begin(): void {
    if (running !== null || fault !== null || lead.verdictAt === null) return
    running = judgeDue()
      .catch((error: unknown) => {
        fault = error
        onTurn()
      })
      .finally(() => {
        running = null
      })
  }

  return {
    begin,
    async settled() {
      begin()
      await running
      if (fault !== null) throw fault
    },
  }
}
